"""`websocket-client`, its `WebSocketApp`: https://websocket-client.readthedocs.io/. It has no server."""

from __future__ import annotations

import socket
import threading
from typing import Any

import websocket

from ._driver import Cannot, ThreadDriver, run

#: Seconds that `end` waits for the thread.
_PATIENCE = 5.0


class WebsocketClientDriver(ThreadDriver):
    """A client with callbacks, in a thread of its own."""

    name = "websocket-client"
    roles = ("client",)
    settings = frozenset(("close_timeout", "open_timeout", "ping_interval", "ping_timeout"))

    def start(self) -> int | None:
        """Begin to connect."""
        assignment = self.assignment
        assert assignment.uri is not None
        options: dict[str, Any] = {}
        if assignment.authority is not None:
            options["sslopt"] = {"ca_certs": assignment.authority}
        if assignment.send_buffer is not None:
            options["sockopt"] = [(socket.SOL_SOCKET, socket.SO_SNDBUF, assignment.send_buffer)]
        if self.setting("ping_interval") is not None:
            options["ping_interval"] = assignment.settings["ping_interval"]
            # It insists that this is the smaller one.
            options["ping_timeout"] = min(self.setting("ping_timeout", 1e9), 0.9 * options["ping_interval"])
        # The only timeout for opening that it knows, and it is for everything else, too.
        websocket.setdefaulttimeout(self.setting("open_timeout"))
        self._app = websocket.WebSocketApp(
            assignment.uri,
            on_open=lambda _app: self.told("open"),
            on_message=lambda _app, message: self.told_message(message, by="on_message()"),
            on_error=lambda _app, exc: self.told_exception(exc, by="on_error()"),
            on_close=lambda _app, code, reason: self.told(f"{code} {reason!r}", by="on_close()", over=True),
        )
        self._thread = threading.Thread(target=self._run, kwargs=options, daemon=True)
        self._thread.start()
        return None

    def _run(self, **options: Any) -> None:
        self._app.run_forever(**options)

    def end(self) -> None:
        """Stop."""
        self._app.keep_running = False
        if self._app.sock is not None:
            self._app.sock.shutdown()  # type: ignore[no-untyped-call]
        self._thread.join(_PATIENCE)

    # What it can be told to do.

    def act_close(self, code: int | None, reason: str) -> None:
        """Close, and wait for the peer's Close."""
        if code is None:
            raise Cannot("no Close without a code")
        self._app.close(
            status=code,
            reason=reason.encode(),
            timeout=self.setting("close_timeout", self.assignment.patience),
        )

    def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""
        self.send_all(self._app.send_bytes, size, count)

    def act_abort(self) -> None:
        """Wake the thread that reads, and end."""
        if self._app.sock is not None:
            self._app.sock.abort()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    run(WebsocketClientDriver)
