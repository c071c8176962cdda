"""Calls to the other services: one request, one JSON answer."""

import json
import socket
from urllib.parse import urlsplit

from kit.serve import Problem

MAX_ANSWER = 1024 * 1024


def call(method, url, value=None, timeout=5):
    """Returns the answer's object; a Problem with the same status if it is not a success."""
    target = urlsplit(url)
    body = b"" if value is None else json.dumps(value).encode()
    path = target.path + (f"?{target.query}" if target.query else "")
    head = (f"{method} {path} HTTP/1.0\r\nHost: {target.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    try:
        with socket.create_connection((target.hostname, target.port or 80), timeout) as link:
            link.sendall(head.encode("ascii") + body)
            answer = receive(link)
    except OSError as error:
        raise Problem(503, f"{target.hostname} does not answer: {error}") from error
    header, _, payload = answer.partition(b"\r\n\r\n")
    try:
        status, result = int(header.split(b" ", 2)[1]), json.loads(payload)
    except (IndexError, ValueError) as error:
        raise Problem(503, f"{target.hostname} answered with something else than JSON") from error
    if not 200 <= status < 300:
        raise Problem(status if status in (400, 404, 409) else 503, result.get("error", "no reason given"))
    return result


def receive(link):
    """Everything up to the end of the connection, within a bound."""
    parts, size = [], 0
    while size <= MAX_ANSWER:
        part = link.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    raise OSError("the answer is too large")
