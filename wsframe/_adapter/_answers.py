"""``Accept``: an answer to a request that goes on with the opening handshake, in another way than the server would."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .._enums import Role
from .._frames import pack_close
from .._http import Headers, Response
from .._negotiate import (
    AS_NEGOTIATED,
    OWN_RESPONSE_HEADERS,
    SAME_HOST,
    HeaderItems,
    Origins,
    SubprotocolChoice,
    _Unset,
    check_settings,
    foreign_headers,
)
from ._settings import ConnectionOptions, Settings, settings_for

__all__ = ["AS_THE_SERVER", "Accept", "Answer", "then"]

Answer: TypeAlias = "Response | Accept | None"


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Accept:
    """What ``on_request`` returns to go on with the opening handshake, for this connection in its own way.

    To a request that asks for no WebSocket it means as much as None: that is answered with 426.

    Args:
        headers: further header lines of the response.
        subprotocol: overrides the negotiated one; must have been offered, or be None.
        handler: takes the connection in the place of the server's: a handler, or an ``Application``.
        params: keyword arguments for that handler, such as the parameters of a path; also in ``ws.path_params``.
        options: limits and timeouts for this connection: any of ``ConnectionOptions`` but ``open_timeout``, which is
            over by then. What is not among them is as the server has it.
        origins, subprotocols, require_subprotocol: what the opening handshake is judged by, as in ``serve``. The server
            has judged it by its own before it asks ``on_request``, unless it has a ``Router``.
        close: a Close code and a reason (or only the code): the WebSocket is opened and closed at once, and no handler
            sees it. For browsers, which do not tell a page the status of an HTTP response.
        context: anything, such as the user that was found; it is ``ws.context`` and ``request.context``.

    Raises:
        LocalProtocolError: a header, a subprotocol or the Close code and reason may not be sent.
        TypeError, ValueError: an argument is wrong.
    """

    headers: Headers
    subprotocol: str | _Unset | None
    handler: Any
    params: Mapping[str, Any]
    options: ConnectionOptions
    origins: Origins | None
    subprotocols: SubprotocolChoice | None
    require_subprotocol: bool | None
    close: tuple[int, str] | None
    context: Any
    # Settings of a server, and what they become with these options: an answer may be given many times. What is made of
    # this one has the same list.
    _last: list[tuple[Settings, Settings]] = field(repr=False)

    def __init__(
        self,
        headers: HeaderItems = (),
        *,
        subprotocol: str | _Unset | None = AS_NEGOTIATED,
        handler: Any = None,
        params: Mapping[str, Any] | None = None,
        options: ConnectionOptions | None = None,
        origins: Origins | None = None,
        subprotocols: SubprotocolChoice | None = None,
        require_subprotocol: bool | None = None,
        close: tuple[int, str] | int | None = None,
        context: Any = None,
    ) -> None:
        if not isinstance(options, (dict, type(None))):
            raise TypeError(f"options must be a dict of options, not {options!r}")
        options = {} if options is None else options.copy()
        if "open_timeout" in options:
            raise TypeError(
                "open_timeout is over when a request is answered: it can only be set for the server"
            )
        settings_for(Role.SERVER, options)
        check_settings(SAME_HOST if origins is None else origins, subprotocols or (), ())
        if close is not None:
            code, reason = (close, "") if isinstance(close, int) else close
            pack_close(code, reason, Role.SERVER)
            close = code, reason
        self._fill(
            headers=foreign_headers(headers, OWN_RESPONSE_HEADERS),
            subprotocol=subprotocol,
            handler=handler,
            params=dict(params or {}),
            options=options,
            origins=origins,
            subprotocols=subprotocols,
            require_subprotocol=require_subprotocol,
            close=close,
            context=context,
            _last=[],
        )

    def _fill(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def with_defaults(self, other: Accept) -> Accept:
        """Return what this one says and, where it says nothing, the other; header lines and options of both."""
        values: dict[str, Any] = {
            name: getattr(other if getattr(self, name) is None else self, name)
            for name in ("origins", "subprotocols", "require_subprotocol", "close", "context")
        }
        # The parameters belong to a handler.
        chooser = other if self.handler is None else self
        merged = object.__new__(Accept)
        merged._fill(
            headers=other.headers + self.headers,
            subprotocol=other.subprotocol if isinstance(self.subprotocol, _Unset) else self.subprotocol,
            handler=chooser.handler,
            params=chooser.params or self.params or other.params,
            options={**other.options, **self.options},
            _last=[] if self.options and other.options else self._last if self.options else other._last,
            **values,
        )
        return merged

    def settings(self, base: Settings) -> Settings:
        """What the connection gets whose server has these settings."""
        if not self.options:
            return base
        # Looked at once: other threads may put in another one.
        last = self._last[0] if self._last else None
        if last is None or last[0] is not base:
            last = base, settings_for(Role.SERVER, self.options, base)
            self._last[:] = [last]
        return last[1]

    @property
    def renegotiates(self) -> bool:
        """Whether the opening handshake has to be judged anew."""
        return (
            self.origins is not None
            or self.subprotocols is not None
            or self.require_subprotocol is not None
            or "compression" in self.options
        )


#: The server goes on in its own way.
AS_THE_SERVER = Accept()


def then(said: Any, go_on: Callable[[Any], Any]) -> Any:
    """Return what ``go_on`` makes of an answer; something to await, if the answer is."""
    if not inspect.isawaitable(said):
        return go_on(said)
    return _then_later(said, go_on)


async def _then_later(said: Awaitable[Any], go_on: Callable[[Any], Any]) -> Any:
    result = go_on(await said)
    return await result if inspect.isawaitable(result) else result
