"""Components that wrap an `Application`: each adds one thing, and they can be put around each other."""

from __future__ import annotations

import collections
from collections.abc import Awaitable, Iterable
from typing import Any

from .._enums import Cause
from .._events import Disconnected
from .._http import Request, Response
from .._negotiate import Origins, check_settings, origin_rejection, wants_websocket
from ._answers import Accept, Answer, then
from ._application import Application, check_handler
from ._peers import PeerSet
from ._settings import ConnectionOptions

__all__ = ["AddressBlockList", "ApplicationWrapper", "Counting", "KeepAlive", "OriginCheck"]


class ApplicationWrapper(Application):
    """Base class for an `Application` around another one: it passes everything on.

    What a derived class does not override costs nothing for a message: ``on_message`` is then that of the inner one.

    Args:
        application: the inner one.

    Raises:
        TypeError: it is no Application, or not in order.
    """

    def __init__(self, application: Application) -> None:
        if not isinstance(application, Application):
            raise TypeError(f"a component wraps an Application, not {application!r}")
        check_handler(application)
        self.application = application
        for name in ("on_open", "on_message", "on_close"):
            if getattr(type(self), name) is getattr(ApplicationWrapper, name):
                setattr(self, name, getattr(application, name))

    def on_request(self, request: Request, /) -> Answer | Awaitable[Answer]:
        """See `Application`."""
        return self.application.on_request(request)

    def on_open(self, ws: Any, /) -> None:
        """See `Application`."""
        self.application.on_open(ws)

    def on_message(self, ws: Any, message: str | bytes, /) -> None:
        """See `Application`."""
        self.application.on_message(ws, message)

    def on_close(self, ws: Any, ending: Disconnected, /) -> None:
        """See `Application`."""
        self.application.on_close(ws, ending)

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected, /) -> None:
        """See `Application`."""
        self.application.on_disconnect(request, remote_address, ending)

    def on_error(self, ws: Any, exc: BaseException, /) -> None:
        """See `Application`."""
        self.application.on_error(ws, exc)


class OriginCheck(ApplicationWrapper):
    """Refuses WebSockets of other origins with 403, before the inner application is asked.

    It is for an application that is the stricter one among several of a server; for all of a server there is
    ``serve(origins=...)``, which is asked before.

    Args:
        application: the inner one.
        origins: as in ``serve``: ``SAME_HOST``, ``ANY_ORIGIN``, or a list of strings and compiled patterns.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(self, application: Application, origins: Origins) -> None:
        super().__init__(application)
        check_settings(origins, (), ())
        self._origins = origins

    def on_request(self, request: Request, /) -> Answer | Awaitable[Answer]:
        """See `Application`."""
        if wants_websocket(request):
            rejection = origin_rejection(request, self._origins)
            if rejection is not None:
                # The server writes the rest.
                return Response(rejection.status, body=rejection.body)
        return super().on_request(request)


class AddressBlockList(ApplicationWrapper):
    """Refuses requests from some addresses with 403, before the inner application is asked.

    Behind a proxy this needs ``serve(trusted_proxies=...)``: all requests come from the proxy's address otherwise.

    Args:
        application: the inner one.
        blocked: addresses, networks such as ``"10.0.0.0/8"``, and ``"unix"`` for unix sockets.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(self, application: Application, blocked: Iterable[str] = ()) -> None:
        super().__init__(application)
        self._blocked = PeerSet(blocked)

    def block(self, address: str) -> None:
        """Refuse an address or a network from now on. What is open stays open.

        Raises:
            TypeError, ValueError: it is neither.
        """
        self._blocked.add(address)

    def unblock(self, address: str) -> None:
        """Take back a `block` of the same address or network; if there was none, nothing happens.

        Raises:
            TypeError, ValueError: it is neither.
        """
        self._blocked.discard(address)

    def is_blocked(self, remote_address: Any) -> bool:
        """Whether a peer's address, as ``ws.remote_address`` has it, is refused."""
        return remote_address in self._blocked

    def on_request(self, request: Request, /) -> Answer | Awaitable[Answer]:
        """See `Application`."""
        if self.is_blocked(request.remote_address):
            return Response(403, body="this address is blocked\n")
        return super().on_request(request)


class KeepAlive(ApplicationWrapper):
    """Pings every connection in a fixed period, and drops who has not answered when the next ping is due.

    It is the option ``heartbeat`` of ``serve``, for one application of several. What the inner application says of it
    in an `Accept` comes first.

    Args:
        application: the inner one.
        interval: seconds.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(self, application: Application, interval: float = 30.0) -> None:
        super().__init__(application)
        options: ConnectionOptions = {"heartbeat": interval}
        self._accept = Accept(options=options)

    def on_request(self, request: Request, /) -> Answer | Awaitable[Answer]:
        """See `Application`."""
        answer: Answer | Awaitable[Answer] = then(super().on_request(request), self._with_heartbeat)
        return answer

    def _with_heartbeat(self, said: Answer) -> Answer:
        if said is None:
            return self._accept
        return said.with_defaults(self._accept) if isinstance(said, Accept) else said


class Counting(ApplicationWrapper):
    """Counts what goes through it.

    Attributes:
        requests: all requests, for a WebSocket or not.
        open: WebSockets that are open now.
        opened: WebSockets that have been opened.
        messages: messages that came.
        endings: how what was a WebSocket has ended, by its cause.
        disconnects: connections that never became one, by the cause of their ending.
    """

    def __init__(self, application: Application) -> None:
        super().__init__(application)
        self.requests = 0
        self.open = 0
        self.opened = 0
        self.messages = 0
        self.endings: collections.Counter[Cause] = collections.Counter()
        self.disconnects: collections.Counter[Cause] = collections.Counter()

    def on_request(self, request: Request, /) -> Answer | Awaitable[Answer]:
        """See `Application`."""
        self.requests += 1
        return super().on_request(request)

    def on_open(self, ws: Any, /) -> None:
        """See `Application`."""
        self.open += 1
        self.opened += 1
        super().on_open(ws)

    def on_message(self, ws: Any, message: str | bytes, /) -> None:
        """See `Application`."""
        self.messages += 1
        super().on_message(ws, message)

    def on_close(self, ws: Any, ending: Disconnected, /) -> None:
        """See `Application`."""
        self.open -= 1
        self.endings[ending.cause] += 1
        super().on_close(ws, ending)

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected, /) -> None:
        """See `Application`."""
        self.disconnects[ending.cause] += 1
        super().on_disconnect(request, remote_address, ending)
