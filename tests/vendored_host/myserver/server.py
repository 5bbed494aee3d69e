# mypy: allow-untyped-calls
"""cheroot with WebSocket: an echo, and a page for plain HTTP. A connection keeps its worker thread to the end.

    python -m myserver.server [--codec cython|python]

It listens on a free port of the loopback interface, prints ``listening PORT`` and ends with its standard input.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable

import cheroot.server

from ._drive import drive
from ._vendor import wsframe

#: The largest messages of the Autobahn suite, with room.
LIMITS = wsframe.Limits(max_message_size=64 << 20)


class Gateway(cheroot.server.Gateway):
    """Answers one request, which cheroot has parsed."""

    def respond(self) -> None:
        """Make it a WebSocket, or answer with a page."""
        request = self.request()
        if "websocket" not in request.headers.tokens("Upgrade"):
            self.answer(200, wsframe.Headers([("Content-Type", "text/plain")]), b"an echo server\n")
            return
        # Whatever becomes of it, it is the last request on this connection.
        self.req.close_connection = True
        outcome = wsframe.negotiate(
            request, origins=wsframe.SAME_HOST, extensions=[wsframe.PermessageDeflate()]
        )
        if isinstance(outcome, wsframe.Rejection):
            self.answer(outcome.status, outcome.headers, outcome.body.encode())
            return
        reader = self.req.conn.rfile
        early = reader.peek() if reader.has_data() else b""
        status, headers, websocket = outcome.accept(limits=LIMITS, trailing_data=early)
        self.answer(status, headers)
        # cheroot closes its socket itself.
        drive(self.req.conn.socket.dup(), websocket, echo(websocket))

    def request(self) -> wsframe.Request:
        """The request in our words."""
        req = self.req
        version = req.request_protocol.decode().removeprefix("HTTP/").split(".")
        return wsframe.Request(
            req.method.decode(), req.uri.decode("latin-1"), req.inheaders, tuple(map(int, version))
        )

    def answer(self, status: int, headers: wsframe.Headers, body: bytes = b"") -> None:
        """Send a response, in cheroot's words."""
        self.req.status = f"{status} {wsframe.Response(status).reason}".encode()
        self.req.outheaders = list(headers.raw)
        if status != 101:
            self.req.outheaders.append((b"Content-Length", str(len(body)).encode()))
        self.req.ensure_headers_sent()
        self.req.write(body)


def echo(websocket: wsframe.Connection) -> Callable[[list[wsframe.Event]], None]:
    """Make the function that reacts to the events of one connection."""

    def react(events: list[wsframe.Event]) -> None:
        for event in events:
            # A Close may have come right behind it, and then nothing can be sent.
            if isinstance(event, wsframe.Message) and websocket.state is wsframe.State.OPEN:
                send = websocket.send_text if event.is_text else websocket.send_bytes
                send(event.data)

    return react


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--codec", choices=["cython", "python"], help="end when another one is loaded")
    options = parser.parse_args()
    if options.codec not in (None, wsframe.backend):
        sys.exit(f"the codec is {wsframe.backend}, not {options.codec}")
    server = cheroot.server.HTTPServer(("127.0.0.1", 0), Gateway)
    server.prepare()
    print(f"listening {server.bind_addr[1]}", flush=True)
    threading.Thread(target=server.serve, daemon=True).start()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
