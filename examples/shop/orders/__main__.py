"""orders: turns a cart into an order, announces it, and notes what payments say about it.

POST /orders {cart, name, email, test_card}            GET /orders/<reference>

An order is committed before it is announced. If the broker can't be reached just then the customer
need not know: the order is announced as soon as the consumer is connected again.
"""

import os

from kit.broker import Broker
from kit.call import call
from kit.database import Database, rows
from kit.serve import Problem, Service, describe, wait_for

CATALOG = os.environ.get("CATALOG_URL", "http://catalog:8081")
CART = os.environ.get("CART_URL", "http://cart:8082")
# No 0, 1, I, O: people read references to each other on the telephone.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
OUTCOMES = {"payment.authorised": "paid", "payment.declined": "declined"}

service = Service("orders", 8083)
database = Database(os.environ.get("DATABASE_URL", "postgres://shop:shop@postgres:5432/shop"))
broker = Broker(service, os.environ.get("AMQP_URL", "amqp://shop:shop@rabbitmq:5672"))


@service.route("POST", "/orders")
def place(request):
    wanted = request.json()
    cart, name, email = (text(wanted, key, limit) for key, limit in (("cart", 64), ("name", 80), ("email", 120)))
    card = wanted.get("test_card", "approved")
    if card not in ("approved", "declined"):
        raise Problem(400, "that test card is unknown")
    if not cart.isalnum():
        raise Problem(400, "that is not a cart")
    if email.count("@") != 1 or email.startswith("@") or email.endswith("@") or " " in email:
        raise Problem(400, "that mail address looks wrong")
    lines = price(call("GET", f"{CART}/carts/{cart}")["items"])
    order = database.run(lambda cursor: insert(cursor, name, email, card, lines))
    try:
        announce(order)
    except Exception as error:
        service.log(f"{order['reference']} is announced later: {describe(error)}")
    empty(cart)
    return 201, order


@service.route("GET", "/orders/([A-Z0-9-]{1,20})")
def show(_request, reference):
    order = database.run(lambda cursor: load(cursor, "reference = %s", reference))
    if not order:
        raise Problem(404, "there is no such order")
    return 200, order[0]


def text(wanted, key, limit):
    """A field that must be there, without control characters, of bounded length."""
    value = wanted.get(key)
    value = "".join(c for c in value if c.isprintable()).strip() if isinstance(value, str) else ""
    if not value or len(value) > limit:
        raise Problem(400, f"please fill in your {key} (at most {limit} characters)")
    return value


def price(items):
    """The cart's items with names and prices. Prices come from the catalog, never from a browser."""
    if not items:
        raise Problem(409, "the cart is empty")
    known = {p["sku"]: p for p in call("GET", f"{CATALOG}/products?skus={','.join(i['sku'] for i in items)}")["products"]}
    lines = [{"sku": i["sku"], "quantity": i["quantity"], "name": known[i["sku"]]["name"],
              "price_cents": known[i["sku"]]["price_cents"]} for i in items if i["sku"] in known]
    if len(lines) != len(items):
        raise Problem(409, "something in the cart is no longer sold")
    return lines


def insert(cursor, name, email, card, lines):
    """Writes customer, order and lines; returns the order as `load` would."""
    cursor.execute("""INSERT INTO customer (email, name) VALUES (lower(%s), %s)
                      ON CONFLICT (email) DO UPDATE SET name = excluded.name RETURNING id""", (email, name))
    customer = cursor.fetchone()[0]
    letters = "".join(ALPHABET[byte % 32] for byte in os.urandom(8))
    reference = f"{letters[:4]}-{letters[4:]}"
    cursor.execute("""INSERT INTO customer_order (reference, customer_id, total_cents, test_card)
                      VALUES (%s, %s, %s, %s) RETURNING id""",
                   (reference, customer, sum(l["quantity"] * l["price_cents"] for l in lines), card))
    order = cursor.fetchone()[0]
    for line in lines:
        cursor.execute("INSERT INTO order_line (order_id, sku, name, quantity, price_cents) VALUES (%s, %s, %s, %s, %s)",
                       (order, line["sku"], line["name"], line["quantity"], line["price_cents"]))
    return load(cursor, "reference = %s", reference)[0]


def load(cursor, condition, *values):
    """Orders with their lines. `condition` is SQL of this file, never of a request."""
    cursor.execute(f"""SELECT o.id, reference, status::text, total_cents, test_card, c.name, c.email
                       FROM customer_order o JOIN customer c ON c.id = customer_id
                       WHERE {condition} ORDER BY o.id LIMIT 100""", values)
    found = rows(cursor)
    for order in found:
        cursor.execute("SELECT sku, name, quantity, price_cents FROM order_line WHERE order_id = %s ORDER BY name",
                       (order.pop("id"),))
        order["lines"] = rows(cursor)
    return found


def announce(order):
    broker.publish("order.placed", order)
    database.run(lambda cursor: cursor.execute(
        "UPDATE customer_order SET announced = true WHERE reference = %s", (order["reference"],)))


def announce_left_over():
    for order in database.run(lambda cursor: load(cursor, "NOT announced")):
        announce(order)


def empty(cart):
    """Clears the cart; an order that stands is no failure because of that."""
    try:
        call("DELETE", f"{CART}/carts/{cart}")
    except Problem as problem:
        service.log(f"cart not emptied: {problem}")


def settle(key, message, _send):
    """Notes the outcome of a payment. A repeated message changes nothing."""
    database.run(lambda cursor: cursor.execute(
        "UPDATE customer_order SET status = %s WHERE reference = %s AND status = 'placed'",
        (OUTCOMES[key], message["reference"])))


def check_database():
    database.run(lambda cursor: cursor.execute("SELECT 1 FROM customer_order LIMIT 1"))


def background():
    wait_for(service, "postgres", check_database)
    broker.consume("orders", settle, on_connect=announce_left_over)


if __name__ == "__main__":
    service.check("postgres", check_database)
    service.check("rabbitmq", broker.check)
    service.background(background)
    service.run()
