"""What the ``serve`` functions of the adapters have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from .._errors import HandshakeError
from .._events import Disconnected, Event
from .._http import Request, Response
from .._negotiate import ANY_ORIGIN, Origins, SubprotocolChoice, check_settings
from .._server import Server
from ._answers import AS_THE_SERVER, Accept, Answer
from ._application import Application, check_handler, has_own_on_request
from ._conduct import answer, application_error
from ._forwarded import TrustedProxies
from ._routing import Router, routed
from ._settings import Settings

__all__ = ["CLOSE_MARGIN", "CommonOptions", "OnEnd", "ask_whom"]

#: Seconds after the connections' own deadline for closing before a server that was given no other drops them: they say
#: better why one has ended.
CLOSE_MARGIN = 0.5

OnEnd: TypeAlias = Callable[["Request | None", Any, Disconnected], None]


class Log(Protocol):
    """What is used of a logger."""

    def debug(self, message: str, /, *arguments: Any) -> None:
        """What a peer did."""

    def error(self, message: str, /, *, exc_info: BaseException) -> None:
        """What the application's code did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """Those arguments that are the same for all adapters."""

    settings: Settings
    origins: Origins
    subprotocols: SubprotocolChoice
    require_subprotocol: bool
    on_end: OnEnd | None
    #: Give out messages in pieces.
    stream: bool = False
    #: Who is believed when it says whose request it passes on.
    trusted_proxies: TrustedProxies | None = None
    #: Only the answer to a request says what it is judged by.
    judges_late: bool = False

    def check(self) -> None:
        """Find out now what would go wrong with every connection.

        Raises:
            LocalProtocolError, TypeError, ValueError: see ``Server``.
        """
        check_settings(self.origins, self.subprotocols, self.settings.extensions)

    def new_endpoint(self) -> Server:
        """The sans-IO side of a new connection."""
        if self.judges_late or self.trusted_proxies is not None:
            return Server(
                origins=ANY_ORIGIN,
                limits=self.settings.limits,
                timeouts=self.settings.timeouts,
                stream=self.stream,
            )
        return Server(
            origins=self.origins,
            subprotocols=self.subprotocols,
            require_subprotocol=self.require_subprotocol,
            extensions=self.settings.extensions,
            limits=self.settings.limits,
            timeouts=self.settings.timeouts,
            stream=self.stream,
        )

    def judge(self, endpoint: Server, remote_address: Any, scheme: str) -> Request | None:
        """Find out whose request it is, and judge an opening handshake where the endpoint could not.

        Args:
            endpoint: has got the request.
            remote_address: where it came from.
            scheme: "http" or "https".

        Returns:
            the request to go on with; None if it was refused.
        """
        request = endpoint.request
        assert request is not None
        request.came_from(remote_address, scheme)
        if self.trusted_proxies is None:
            return request
        try:
            request = self.trusted_proxies.apply(request)
        except HandshakeError as exc:
            endpoint.reject(exc.status or 400, body=f"{exc}\n")
            return None
        if (
            endpoint.handshake is not None
            and not self.judges_late
            and not self._negotiate(endpoint, AS_THE_SERVER, request)
        ):
            return None
        return request

    def answer(self, endpoint: Server, request: Request, said: Answer) -> list[Event]:
        """Answer a request with what ``on_request`` has said.

        Raises:
            LocalProtocolError: that cannot be done.
            TypeError: it is no answer.
        """
        if isinstance(said, Response) or (said is None and not self.judges_late):
            return answer(endpoint, said)
        if said is None:
            said = AS_THE_SERVER
        elif not isinstance(said, Accept):
            raise TypeError(f"on_request must return None, a Response or an Accept, not {said!r}")
        if endpoint.handshake is None:
            return endpoint.respond_upgrade_required()
        judge = self.judges_late or said.renegotiates
        if judge and not self._negotiate(endpoint, said, request):
            return []
        settings = said.settings(self.settings)
        return endpoint.accept(
            subprotocol=said.subprotocol,
            headers=said.headers,
            limits=settings.limits,
            timeouts=settings.timeouts,
        )

    def _negotiate(self, endpoint: Server, accept: Accept, request: Request) -> bool:
        require = accept.require_subprotocol
        return endpoint.negotiate(
            origins=self.origins if accept.origins is None else accept.origins,
            subprotocols=self.subprotocols if accept.subprotocols is None else accept.subprotocols,
            require_subprotocol=self.require_subprotocol if require is None else require,
            extensions=accept.settings(self.settings).extensions,
            request=request,
        )

    def report(self, request: Request | None, address: Any, ending: Disconnected, log: Log) -> None:
        """Tell the log and the application how a connection has ended."""
        log.debug("connection from %s ended: %s", address, ending)
        error = application_error(ending)
        if error is not None:
            log.error("the application's code failed in an opening handshake", exc_info=error)
        if self.on_end is not None:
            try:
                self.on_end(request, address, ending)
            except Exception as exc:
                log.error("on_end raised an exception", exc_info=exc)


def ask_whom(
    handler: Any, on_request: Any, *, stream: bool = False, is_plain: bool = False
) -> tuple[Any, Any, bool]:
    """Look at these arguments of ``serve``.

    Args:
        handler: a handler, an `Application` or a `Router`.
        on_request: what is asked before.
        stream: messages come in pieces.
        is_plain: nothing of it may be a coroutine function.

    Returns:
        the handler, or None where the answer to a request says which; what is asked with every request, or None; and
        whether only its answer says what the request is judged by.

    Raises:
        TypeError: one of them is not what it has to be.
    """
    asked = [on_request]
    if isinstance(handler, Router):
        for routed_to in handler.handlers:
            check_handler(routed_to, stream=stream, is_plain=is_plain)
            asked.append(getattr(routed_to, "on_request", None))
        asked += handler.functions
        found: tuple[Any, Any, bool] = None, routed(handler, on_request), True
    else:
        check_handler(handler, stream=stream, is_plain=is_plain)
        if isinstance(handler, Application) and has_own_on_request(handler):
            if on_request is not None:
                raise TypeError("on_request is there twice: as an argument and in the Application")
            on_request = handler.on_request
            asked.append(on_request)
        found = handler, on_request, False
    for function in asked:
        if is_plain and inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} must be a plain function: nobody would await what it returns")
    return found
