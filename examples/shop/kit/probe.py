"""The health check of the Python services: exits 0 once /healthz on this port of ours says 200.

It asks again for up to four seconds before it says no. While a service starts, one patient check
costs less than many hasty ones, and tells sooner.
"""

import socket
import sys
import time

PATIENCE = 4


def ask(port):
    """None if healthy, else the reason."""
    try:
        with socket.create_connection(("127.0.0.1", port), 3) as link:
            link.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = link.makefile("rb").read(65536).decode("utf-8", "replace")
    except OSError as error:
        return f"no answer: {error}"
    if answer.split(" ", 2)[1:2] == ["200"]:
        return None
    return answer.rpartition("\r\n")[2][:300] or "an empty answer"


ends, pause = time.monotonic() + PATIENCE, 0.01
while reason := ask(int(sys.argv[1])):
    if time.monotonic() > ends:
        sys.exit(reason)
    time.sleep(pause)
    pause = min(pause * 1.5, 0.1)
