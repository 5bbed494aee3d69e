"""Limits and timeouts: validated values whose names adapters use for their keyword arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ._enums import Role

__all__ = ["Limits", "Timeouts"]

MIB = 1 << 20
KIB = 1 << 10
DAY = 86400.0

#: What the two roles allow for one message when nothing is said.
DEFAULT_SERVER_MESSAGE_SIZE = MIB
DEFAULT_CLIENT_MESSAGE_SIZE = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds for everything that a peer can fill. Sizes are bytes; the value itself still passes.

    Args:
        max_message_size: payload of one message after decompression. Control frames do not count.
        max_fragments: frames of one message.
        max_pong_bytes: pongs queued for a peer that does not read; beyond it only the latest is kept.
        max_header_line: one line of an HTTP head.
        max_header_bytes: a whole HTTP head.
        max_header_count: header lines in an HTTP head.
        max_body_size: an HTTP request's or response's body.
        max_early_bytes: bytes received between the request and ``accept()``.
        write_high_water: queued output above which ``await send()`` waits.
        write_low_water: queued output below which it goes on.
        write_hard_cap: queued output above which a send that does not wait ends the connection as SLOW_PEER.
        receive_queue_messages: messages an adapter keeps for its reader before it pauses reading.
        receive_queue_bytes: payload bytes an adapter keeps for its reader before it pauses reading.

    Raises:
        TypeError: a value is not an int.
        ValueError: a value is negative or zero, or low water is above high water or that above the cap.
    """

    max_message_size: int = DEFAULT_SERVER_MESSAGE_SIZE
    max_fragments: int = 131072
    max_pong_bytes: int = 64 * KIB
    max_header_line: int = 16 * KIB
    max_header_bytes: int = 64 * KIB
    max_header_count: int = 128
    max_body_size: int = 64 * KIB
    max_early_bytes: int = 64 * KIB
    write_high_water: int = 64 * KIB
    write_low_water: int = 16 * KIB
    write_hard_cap: int = 4 * MIB
    receive_queue_messages: int = 16
    receive_queue_bytes: int = 256 * KIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{field.name} must be an int, not {value!r}")
            if value <= 0:
                raise ValueError(f"{field.name} must be positive, not {value}")
        # Frame lengths are 63-bit numbers (RFC 6455 s5.2); nothing larger means anything.
        if self.max_message_size >= 1 << 63:
            raise ValueError(f"max_message_size must be below 2**63, not {self.max_message_size}")
        if not self.write_low_water <= self.write_high_water <= self.write_hard_cap:
            raise ValueError(
                f"write_low_water ({self.write_low_water}) <= write_high_water ({self.write_high_water})"
                f" <= write_hard_cap ({self.write_hard_cap}) does not hold"
            )

    @classmethod
    def for_role(cls, role: Role) -> Limits:
        """The defaults of one side: a client chose whom it listens to, so it takes larger messages."""
        return cls(
            max_message_size=DEFAULT_CLIENT_MESSAGE_SIZE
            if role is Role.CLIENT
            else DEFAULT_SERVER_MESSAGE_SIZE
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines in seconds. None turns one off, where that is allowed; more than a day is refused.

    Args:
        open: the whole opening handshake (not None).
        close: from the first Close frame, or the failure, to the end of the transport (not None).
        ping_interval: silence after which a keepalive ping is sent.
        ping_timeout: how long any byte may take to come after a keepalive ping left.
        heartbeat: period of pings that are sent whatever comes, in the place of those of ``ping_interval``: a peer that
            has not answered one when the next is due is lost, and ``ping_timeout`` does not matter.
        write: how long not one byte of what waits to be sent may leave.
        idle: time without a message in either direction after which the connection is closed with 1001.
        linger: how long input is discarded after a failing Close or a refused request, and how long a client waits
            for the server to close TCP (not None).

    Raises:
        TypeError: a value is neither a number nor None.
        ValueError: a value is not finite, not positive, over a day, or None where that is not allowed.
    """

    open: float = 10.0
    close: float = 10.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    heartbeat: float | None = None
    write: float | None = 60.0
    idle: float | None = None
    linger: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                if field.name in ("open", "close", "linger"):
                    raise ValueError(f"the {field.name} timeout cannot be turned off")
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{field.name} must be a number of seconds or None, not {value!r}")
            if not math.isfinite(value) or value <= 0 or value > DAY:
                raise ValueError(f"{field.name} must be over 0 and at most {DAY:.0f} seconds, not {value}")
