"""The keyword arguments that ``serve`` and ``connect`` share, and what they become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

from .._config import Limits, Timeouts
from .._deflate import PermessageDeflate
from .._enums import Role

__all__ = ["ConnectionOptions", "Settings", "settings_for"]


class ConnectionOptions(TypedDict, total=False):
    """Keyword arguments of both ``serve`` and ``connect``.

    Attributes:
        compression: offer or accept permessage-deflate (RFC 7692): False (the default), True, or its settings.
        max_message_size: bytes of one message after decompression; 1 MiB on a server, 16 MiB on a client, or what
            ``limits`` says.
        open_timeout: seconds for TCP, TLS and the opening handshake together (10).
        close_timeout: seconds from the first Close frame, or a failure, to the end (10).
        ping_interval: seconds of silence after which a keepalive ping is sent (20), or None.
        ping_timeout: seconds that any byte may take after it (20), or None.
        heartbeat: seconds between pings that are sent whatever comes, in the place of ``ping_interval``; who has not
            answered one when the next is due is dropped, and ``ping_timeout`` does not matter. None (the default).
        write_timeout: seconds in which not one byte may leave of what waits to be sent (60), or None.
        idle_timeout: seconds without a message after which the connection is closed with 1001; None (the default).
        limits: all other bounds.
    """

    compression: bool | PermessageDeflate
    max_message_size: int
    open_timeout: float
    close_timeout: float
    ping_interval: float | None
    ping_timeout: float | None
    heartbeat: float | None
    write_timeout: float | None
    idle_timeout: float | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """What the core takes."""

    limits: Limits
    timeouts: Timeouts
    extensions: tuple[PermessageDeflate, ...]


#: Keyword -> the field of `Timeouts` that it sets.
_TIMEOUTS = {
    "open_timeout": "open",
    "close_timeout": "close",
    "ping_interval": "ping_interval",
    "ping_timeout": "ping_timeout",
    "heartbeat": "heartbeat",
    "write_timeout": "write",
    "idle_timeout": "idle",
}


def settings_for(role: Role, options: ConnectionOptions, base: Settings | None = None) -> Settings:
    """Check the options and fill in the defaults.

    Args:
        role: whose defaults.
        options: what was asked for.
        base: what holds where nothing was asked for, in the place of the defaults.

    Raises:
        TypeError: an unknown keyword, or a value of the wrong type.
        ValueError: a value out of range.
    """
    unknown = options.keys() - ConnectionOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(sorted(ConnectionOptions.__annotations__))
        raise TypeError(f"unknown keyword argument {sorted(unknown)[0]!r}; these options exist: {known}")
    if base is None:
        base = Settings(Limits.for_role(role), Timeouts(), ())
    limits = options.get("limits", base.limits)
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, not {limits!r}")
    if "max_message_size" in options:
        limits = replace(limits, max_message_size=options["max_message_size"])
    given = {field: options[name] for name, field in _TIMEOUTS.items() if name in options}  # type: ignore[literal-required]
    timeouts = replace(base.timeouts, **given)
    if "compression" not in options:
        return Settings(limits, timeouts, base.extensions)
    compression = options["compression"]
    if compression is True:
        compression = PermessageDeflate()
    elif compression is not False and not isinstance(compression, PermessageDeflate):
        raise TypeError(f"compression must be a bool or a PermessageDeflate, not {compression!r}")
    return Settings(limits, timeouts, () if compression is False else (compression,))
