"""The health check of the Python services: exits 0 if /healthz on this port of ours says 200."""

import socket
import sys

try:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3) as link:
        link.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = link.makefile("rb").read(65536).decode("utf-8", "replace")
except OSError as error:
    sys.exit(f"no answer: {error}")
if answer.split(" ", 2)[1:2] != ["200"]:
    sys.exit(answer.rpartition("\r\n")[2][:300] or "an empty answer")
