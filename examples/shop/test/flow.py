"""Walks through the whole shop over HTTP, as a customer would, and says what it saw.

    python3 test/flow.py http://127.0.0.1:8080

Exits 0 only if browsing, cart, order, payment and mail all worked, for a card that is accepted and
for one that is declined. COOKIE in the environment is sent along, for a shop behind a sign-in.
"""

import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

MAX_PAGE = 1024 * 1024


class Customer:
    """A browser's cookie jar and patience, no more."""

    def __init__(self, base):
        self.base = base.rstrip("/")
        self.cookies = {}
        self.opener = urllib.request.build_opener(NoRedirect)

    def get(self, path, expect=200):
        return self._ask(urllib.request.Request(self.base + path), expect)[1]

    def post(self, path, expect=303, **fields):
        body = urllib.parse.urlencode(fields).encode()
        return self._ask(urllib.request.Request(self.base + path, data=body), expect)

    def _ask(self, request, expect):
        own = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        request.add_header("Cookie", "; ".join(part for part in (os.environ.get("COOKIE"), own) if part))
        try:
            answer = self.opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        page = answer.read(MAX_PAGE).decode()
        if answer.status != expect:
            fail(f"{request.get_method()} {request.selector}: {answer.status} instead of {expect}: {text_of(page)}")
        for header in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = header.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer.headers, page


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are part of what is looked at."""

    def redirect_request(self, *_):
        return None


def fail(reason):
    print(f"FAILED: {reason}", file=sys.stderr)
    sys.exit(1)


def text_of(page):
    main = re.search(r"<main.*</main>", page, re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", main.group() if main else page).split())[:300]


def check(condition, reason):
    if not condition:
        fail(reason)


def buy(shop, card, outcome, seconds):
    """One purchase from shelf to mail; returns the milliseconds from order to mail."""
    home = shop.get("/")
    skus = re.findall(r'class="card"><a href="/products/([a-z0-9-]+)"', home)
    check(len(skus) >= 20, f"only {len(skus)} products on the shelf")
    page = shop.get(f"/products/{skus[0]}")
    price = int("".join(re.search(r'class="price">€ (\d+)\.(\d\d)', page).groups()))
    shop.post("/cart", sku=skus[0], amount=2)
    shop.post("/cart", sku=skus[1], amount=1)
    shop.post("/cart/change", sku=skus[1], amount=0)
    cart = shop.get("/cart")
    total = f"€ {2 * price // 100}.{2 * price % 100:02}"
    check(f"<b>{total}</b>" in cart and skus[1] not in cart, f"the cart does not come to {total}")

    started = time.monotonic()
    headers, _ = shop.post("/orders", name="Robin <b>Tester</b>", email="robin@example.com", test_card=card)
    reference = headers["Location"].rpartition("/")[2]
    check("Nothing in here yet" in shop.get("/cart"), "the cart was not emptied")
    while True:
        order = shop.get(f"/orders/{reference}")
        if outcome in order and "Mail written" in order:
            break
        check(time.monotonic() - started < seconds, f"order {reference} after {seconds} s: {text_of(order)}")
        time.sleep(0.02)
    took = (time.monotonic() - started) * 1000

    box = shop.get(f"/outbox?reference={reference}")
    letters = [shop.get(path) for path in re.findall(r'href="(/outbox/\d+)"', box)]
    check(len(letters) == 2, f"{len(letters)} mails instead of 2 about {reference}")
    check(all(reference in letter and total in letter for letter in letters), "a mail lacks reference or total")
    check(all("<b>Tester" not in page for page in [order, box, *letters]), "a name was not escaped")
    return reference, took


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    shop = Customer(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) == 3 else 30
    # Orders first, health afterwards: a shop that has just woken up must sell at once.
    paid, took = buy(shop, "approved", "Paid", seconds)
    print(f"order {paid}: paid and written to in {took:.0f} ms")
    declined, took = buy(shop, "declined", "declined", seconds)
    print(f"order {declined}: declined and written to in {took:.0f} ms")

    events = shop.get(f"/orders/{paid}/events")
    check("event: progress" in events and events.rstrip().endswith("event: end\ndata: {}"), "the events of an order do not end")
    check("Morning Mug" in shop.get("/?q=quiet") and "Clerk" not in shop.get("/?q=quiet"), "search does not filter")
    check("&lt;script&gt;" in shop.get("/?q=%3Cscript%3E"), "a search text was not escaped")
    shop.get("/products/nothing-like-it", expect=404)
    shop.post("/orders", expect=400, name="", email="x", test_card="approved")
    check(json.loads(shop.get("/healthz"))["ok"], "/healthz is not content")
    print("all of it works")


if __name__ == "__main__":
    main()
