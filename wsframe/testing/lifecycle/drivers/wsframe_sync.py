"""wsframe's adapter for blocking sockets."""

from __future__ import annotations

import threading

from ...._backend import backend
from ...._events import Disconnected
from ...._http import Request, Response
from ...._version import __version__
from ....sync import ConnectError, ConnectionClosed, Server, WebSocket, connect, serve
from ._driver import Cannot, ThreadDriver, run
from ._endings import SETTINGS, fields_of, in_words, options_of

#: Seconds that `end` waits for a thread.
_PATIENCE = 5.0


class ApplicationFails(Exception):
    """What the application raises when it is to raise something."""


class SyncDriver(ThreadDriver):
    """A server's handler, or a client, that reads until it is told to do something else."""

    name = "wsframe.sync"
    settings = SETTINGS

    @classmethod
    def version(cls) -> str:
        """wsframe's version, and the codec that is loaded."""
        return f"{__version__} {backend}"

    def start(self) -> int | None:
        """Serve, or begin to connect."""
        self._server: Server | None = None
        self._ws: WebSocket | None = None
        #: How the handler is to be left: None, or an exception.
        self._leave: list[BaseException | None] = []
        self._left = threading.Event()
        assignment = self.assignment
        options = options_of(assignment.settings)
        context = assignment.ssl_context()
        if assignment.role == "client":
            uri = assignment.uri
            assert uri is not None
            self._thread = threading.Thread(target=self._connect, args=(uri, context, options), daemon=True)
            self._thread.start()
            return None
        self._server = serve(
            self._use,
            sock=assignment.listener(),
            ssl=context,
            on_request=None if assignment.answer is None else self._on_request,
            on_end=lambda _request, _address, ending: self._over(ending),
            **options,
        )
        port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return port

    def end(self) -> None:
        """Abort what is left."""
        self._left.set()
        if self._ws is not None:
            self._ws.abort()
        if self._server is not None:
            self._server.close()
        self._thread.join(_PATIENCE)

    # The application.

    def _on_request(self, _request: Request) -> Response | None:
        answer = self.assignment.answer
        if isinstance(answer, int):
            return Response(answer, body=self.assignment.body.encode())
        if answer == "raise":
            raise ApplicationFails("the application fails")
        self._left.wait()
        return None

    def _connect(self, uri: str, context: object, options: dict[str, object]) -> None:
        try:
            with connect(uri, ssl=context, sock=self.assignment.dialled(), **options) as ws:  # type: ignore[call-overload]
                self._use(ws)
        except ConnectError as exc:
            self._over(exc.ending)
        except ApplicationFails:
            pass
        finally:
            if self._ws is not None:
                self._over(self._ws.wait_closed())

    def _use(self, ws: WebSocket) -> None:
        self._ws = ws
        self.told("open")
        try:
            self._read(ws)
        except ConnectionClosed as exc:
            if exc.ending is not ws.ending:
                self.told(f"another ending: {exc.ending}", by="recv()")

    def _read(self, ws: WebSocket) -> None:
        # Who reads all the time does nothing else; only a handler that is to leave looks up now and then.
        looks_up = not {"return", "raise"}.isdisjoint(self.assignment.acts)
        while not self._left.is_set():
            try:
                message = ws.recv(timeout=0.02 if looks_up else None)
            except TimeoutError:
                continue
            self.told_message(message, by="recv()")
        for exc in self._leave:
            if exc is not None:
                raise exc

    def _over(self, ending: Disconnected) -> None:
        self.told(in_words(ending), over=True, ending=fields_of(ending))

    # What it can be told to do.

    def _open(self) -> WebSocket:
        assert self._ws is not None, "it is not open"
        return self._ws

    def act_close(self, code: int | None, reason: str) -> None:
        """Close, and wait for the end."""
        self._open().close(code, reason)

    def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""
        try:
            self.send_all(self._open().send, size, count)
        except ConnectionClosed as exc:
            if exc.ending is not self._open().ending:
                self.told(f"another ending: {exc.ending}", by="send()")

    def act_abort(self) -> None:
        """Abort."""
        self._open().abort()

    def act_return(self) -> None:
        """Leave the handler, or the `with` block."""
        self._leave.append(None)
        self._left.set()

    def act_raise(self) -> None:
        """Leave it with an exception."""
        self._leave.append(ApplicationFails("the application fails"))
        self._left.set()

    def act_cancel(self) -> None:
        """There is nothing of the kind."""
        raise Cannot("a thread cannot be cancelled")

    def act_shutdown(self, code: int, reason: str) -> None:
        """Close the server."""
        assert self._server is not None
        self._server.close(code, reason)


if __name__ == "__main__":
    run(SyncDriver)
