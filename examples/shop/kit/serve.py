"""JSON over HTTP for the Python services: a thread and a connection for each request.

The standard library's `http.server` would do, but it costs 4 MB in each process, and all that
these services need is a few lines.
"""

import json
import os
import re
import signal
import socketserver
import sys
import threading
import time

MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024
MAX_THREADS = 32
REASONS = {200: "OK", 201: "Created", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
           409: "Conflict", 413: "Content Too Large", 500: "Internal Server Error", 503: "Service Unavailable"}


class Problem(Exception):
    """An answer other than success, with a text that a person may read."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Request:
    """What a handler sees of a request."""

    def __init__(self, method, path, query, body):
        self.method, self.path, self.query, self._body = method, path, query, body

    def json(self):
        """The body as an object; a Problem if it is something else."""
        try:
            value = json.loads(self._body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Problem(400, "expected a JSON object")
        return value


class Service:
    """Routes, health checks and the server around them."""

    def __init__(self, name, default_port):
        self.name = name
        self.port = int(os.environ.get("PORT", default_port))
        self._routes = []
        self._checks = {}
        self.route("GET", "/healthz")(self._health)

    def route(self, method, pattern):
        """Registers a handler; groups of the pattern become its arguments."""
        def register(handler):
            self._routes.append((method, re.compile(pattern), handler))
            return handler
        return register

    def check(self, name, probe):
        """Adds a dependency to /healthz: `probe` raises when it can't be used."""
        self._checks[name] = probe

    def log(self, text):
        """Writes one line, whole, to standard error."""
        sys.stderr.write(f"{self.name}: {text}\n")
        sys.stderr.flush()

    def background(self, task):
        """Runs `task` in a thread. When it fails the process ends, and is started again."""
        def run():
            try:
                task()
            except Exception as error:
                self.log(f"giving up: {describe(error)}")
                os._exit(1)
        threading.Thread(target=run, daemon=True).start()

    def run(self):
        """Listens until SIGTERM."""
        # Small stacks: the default of 8 MB is reserved for each thread.
        threading.stack_size(256 * 1024)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        with Server(("0.0.0.0", self.port), self) as server:
            self.log(f"listening on port {self.port}")
            # `shutdown` is never called, so there is nothing to poll for.
            server.serve_forever(poll_interval=3600)

    def answer(self, request):
        """Finds the handler and returns a status and an object."""
        allowed = False
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return handler(request, *match.groups())
            allowed = allowed or bool(match)
        raise Problem(405, "method not allowed") if allowed else Problem(404, "no such page")

    def _health(self, _request):
        results = {}
        for name, probe in self._checks.items():
            try:
                probe()
                results[name] = "ok"
            except Exception as error:
                results[name] = describe(error)
        ok = all(result == "ok" for result in results.values())
        return (200 if ok else 503), {"service": self.name, "ok": ok, "checks": results}


class Server(socketserver.ThreadingTCPServer):
    """Bounded threads; a client that is slow or gone is no reason for a stack trace."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address, service):
        self.service = service
        self.slots = threading.BoundedSemaphore(MAX_THREADS)
        super().__init__(address, Handler)

    def process_request_thread(self, request, client_address):
        with self.slots:
            super().process_request_thread(request, client_address)

    def handle_error(self, request, client_address):
        pass


class Handler(socketserver.StreamRequestHandler):
    """One request, one answer, and the connection ends."""

    timeout = 10
    wbufsize = -1

    def handle(self):
        started = time.monotonic()
        request = None
        try:
            request = self.read()
            status, value = self.server.service.answer(request)
        except Problem as problem:
            status, value = problem.status, {"error": str(problem)}
        except OSError:
            return
        except Exception as error:
            status, value = 500, {"error": "something went wrong here"}
            self.server.service.log(f"{request.method} {request.path}: {describe(error)}")
        body = json.dumps(value).encode()
        self.wfile.write(
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        if request and request.path != "/healthz":
            taken = (time.monotonic() - started) * 1000
            self.server.service.log(f"{request.method} {request.path} {status} {taken:.0f} ms")

    def read(self):
        """Reads a request of bounded size."""
        line, left = self.line(MAX_HEAD)
        parts = line.split(" ")
        if len(parts) != 3 or not parts[1].startswith("/"):
            raise Problem(400, "malformed request")
        length = 0
        while True:
            header, left = self.line(left)
            if not header:
                break
            name, _, value = header.partition(":")
            if name.lower() == "content-length":
                length = int(value) if value.strip().isascii() and value.strip().isdigit() else MAX_BODY + 1
            elif name.lower() == "transfer-encoding":
                raise Problem(400, "a Content-Length is needed")
        if length > MAX_BODY:
            raise Problem(413, "too large")
        path, _, query = parts[1].partition("?")
        return Request(parts[0], path, parse_query(query), self.rfile.read(length))

    def line(self, left):
        raw = self.rfile.readline(left + 1)
        if len(raw) > left or not raw.endswith(b"\n"):
            raise Problem(400, "malformed request")
        return raw.decode("latin-1").rstrip("\r\n"), left - len(raw)


def parse_query(text):
    """The query string as a dictionary; the last of several values counts."""
    from urllib.parse import parse_qsl
    return dict(parse_qsl(text, max_num_fields=20)) if text else {}


def describe(error):
    """An error in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, Problem):
        return text[:300]
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def wait_for(service, what, attempt, seconds=60):
    """Repeats `attempt` until it succeeds, with growing pauses; raises when `seconds` are over."""
    ends = time.monotonic() + seconds
    pause = 0.02
    told = False
    while True:
        try:
            return attempt()
        except Exception as error:
            if time.monotonic() + pause > ends:
                raise
            if not told and pause > 0.2:
                service.log(f"waiting for {what}: {describe(error)}")
                told = True
        time.sleep(pause)
        pause = min(pause * 2, 0.5)
