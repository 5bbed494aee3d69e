"""When to connect again after a connection was lost, or not made, and after how long. No I/O, no clock, no chance."""

from __future__ import annotations

import calendar
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_tz
from typing import Any, TypeAlias, TypeVar

from .._config import DAY
from .._enums import Cause, Initiator
from .._events import Disconnected, ResponseReceived
from .._http import Headers
from ._exceptions import ConnectError, HandshakeRejected

__all__ = [
    "TABLE",
    "Decide",
    "Retry",
    "RetryPolicy",
    "Rule",
    "Verdict",
    "check_reconnecting",
    "noted",
    "response_of",
    "rule_for",
]

ErrorT = TypeVar("ErrorT", bound=BaseException)

#: An ending, and the response of a server that refused -> True (retry), False (stop), seconds until the next attempt,
#: or None (as the table says).
Decide: TypeAlias = Callable[[Disconnected, "ResponseReceived | None"], "bool | float | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table, for what it names.

    Attributes:
        retry: whether to connect again.
        why: in words.
        statuses: HTTP statuses of a server that refused.
        codes: Close codes, or what stands for one, of what was a WebSocket.
        causes: why there was no WebSocket, and no answer to the request.
        certificate: a TLS handshake failed because of a certificate.
        delay: seconds between which the next attempt is made, if the backoff says no more.
    """

    retry: bool
    why: str
    statuses: Sequence[int] = ()
    codes: Sequence[int] = ()
    causes: Sequence[Cause] = ()
    certificate: bool = False
    delay: tuple[float, float] | None = None


#: What comes after which ending. The first row counts that names it; there is one for each.
TABLE: tuple[Rule, ...] = (
    Rule(retry=False, statuses=(401, 403, 404), why="the server wants other credentials, or another address"),
    Rule(retry=True, statuses=(408, 425, 429), why="the server asks to try again"),
    Rule(retry=True, statuses=range(500, 600), why="the server has a problem, which may pass"),
    Rule(retry=False, statuses=range(1000), why="the same request would get the same answer"),
    Rule(retry=False, certificate=True, why="a certificate was not accepted"),
    Rule(
        retry=False,
        causes=(Cause.PROTOCOL_ERROR, Cause.NOT_HTTP),
        why="what answers there does not speak WebSocket",
    ),
    Rule(retry=True, causes=tuple(Cause), why="the server could not be reached, or did not answer"),
    Rule(retry=False, codes=(1000,), why="it was closed because all was done"),
    Rule(retry=True, codes=(1001, 1005, 1006), why="the server, or the way to it, went away"),
    Rule(retry=True, codes=(1011, 1013, 1014), why="the server has a problem, which may pass"),
    # The registry of Close codes says "using a randomized delay of 5 - 30s".
    Rule(retry=True, codes=(1012,), delay=(5.0, 30.0), why="the server restarts"),
    Rule(retry=False, codes=(1002, 1007), why="one side did not understand the other, and would not again"),
    Rule(retry=False, codes=(1003, 1008, 1009, 1010), why="what was sent, or asked for, is not allowed"),
    Rule(retry=False, codes=(3000, 3003), why="the server wants other credentials"),
    Rule(retry=True, codes=range(5000), why="the code says nothing about that"),
)

#: The server did not speak; what we had to say about it, had it listened, stands for its Close code.
_OUR_VERDICTS = {Cause.PROTOCOL_ERROR: 1002, Cause.INVALID_DATA: 1007, Cause.TOO_BIG: 1009}

#: A delay that begins with nothing never becomes anything.
_LEAST_SECONDS = 0.001

#: What is part of the reasons that OpenSSL gives when a certificate was refused: the server's, or by the server ours.
_CERTIFICATE_REASONS = ("CERTIFICATE", "UNKNOWN_CA")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to connect again, how soon, and when to give up.

    The delay before an attempt is random, between 0 and a bound (full jitter), so that many clients that have lost the
    same server do not come back together. The bound begins with ``initial`` (RFC 6455 s7.2.3 has 5 seconds) and grows
    by ``factor`` with every attempt up to ``maximum``. It begins again when a connection has lasted for
    ``stable_after``. A Retry-After that came with a refusal is waited for first.

    Args:
        initial: seconds; the bound of the first delay.
        factor: what it is multiplied with for each further one, at least 1.
        maximum: seconds; what it does not exceed.
        stable_after: seconds after which a connection counts as a success, and what was before is forgotten.
        max_attempts: attempts in a row, none of which led to such a connection, after which to give up; None for never.
        max_seconds: seconds without a connection, added up since the last such one, after which no attempt is made any
            more; None for no limit.
        retry_after_cap: seconds; the most that a Retry-After can ask for.
        on_ok: connect again after Close code 1000, too.
        decide: asked first. It gets the ending and, where a server has refused the opening handshake, its
            `ResponseReceived`, else None. It returns True to connect again, False not to, the seconds after which to,
            or None to leave it to the table.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of range, or ``initial`` is above ``maximum``.
    """

    initial: float = 5.0
    factor: float = 2.0
    maximum: float = 60.0
    stable_after: float = 60.0
    max_attempts: int | None = None
    max_seconds: float | None = None
    retry_after_cap: float = 300.0
    on_ok: bool = False
    decide: Decide | None = None

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "stable_after", "retry_after_cap"):
            _check_number(name, getattr(self, name), _LEAST_SECONDS, DAY)
        _check_number("factor", self.factor, 1, 1000)
        if self.max_seconds is not None:
            _check_number("max_seconds", self.max_seconds, _LEAST_SECONDS, math.inf)
        if self.max_attempts is not None:
            if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
                raise TypeError(f"max_attempts must be an int or None, not {self.max_attempts!r}")
            _check_number("max_attempts", self.max_attempts, 1, math.inf)
        if not isinstance(self.on_ok, bool):
            raise TypeError(f"on_ok must be a bool, not {self.on_ok!r}")
        if self.decide is not None and not callable(self.decide):
            raise TypeError(f"decide must be callable, or None, not {self.decide!r}")
        if self.initial > self.maximum:
            raise ValueError(f"initial ({self.initial:g}) must not be above maximum ({self.maximum:g})")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes after an ending.

    Attributes:
        delay: seconds until the next attempt; None where there is none.
        reason: why, in words.
        quiet: that there is none is no failure.
    """

    delay: float | None
    reason: str
    quiet: bool = False


class Retry:
    """The attempts of one client, one after the other.

    For every attempt: ``begin``, then ``opened`` if it succeeds, and ``lost`` when it has failed, or the connection has
    ended. One that was broken off needs no ``lost``.

    Args:
        policy: what is to be done.
        random: gives a number from 0 up to, but not, 1.

    Attributes:
        attempts: how many there were since the last stable connection.
    """

    __slots__ = ("_bound", "_down_since", "_opened_at", "_policy", "_random", "_seconds_down", "attempts")

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        # None while it is not open.
        self._opened_at: float | None = None
        # None while it is open, and before the first attempt.
        self._down_since: float | None = None
        self._forget()

    def _forget(self) -> None:
        self.attempts = 0
        self._bound = self._policy.initial
        # Without the time since `_down_since`.
        self._seconds_down = 0.0

    def begin(self, now: float) -> None:
        """An attempt begins."""
        self.attempts += 1
        self._opened_at = None
        if self._down_since is None:
            self._down_since = now

    def opened(self, now: float) -> None:
        """It succeeded."""
        assert self._down_since is not None
        self._seconds_down += now - self._down_since
        self._down_since = None
        self._opened_at = now

    def lost(
        self,
        ending: Disconnected,
        response: ResponseReceived | None,
        now: float,
        wall: float,
        *,
        asked: bool = False,
    ) -> Verdict:
        """It failed, or has ended: what now?

        Args:
            ending: how.
            response: that of a server which refused.
            now: seconds, on the same clock as everywhere.
            wall: seconds since 1970, for a Retry-After that is a date.
            asked: whoever closed it, on this side, wants another.

        Raises:
            TypeError, ValueError: ``RetryPolicy.decide`` returned what it may not return.
        """
        policy = self._policy
        if self._down_since is None:
            self._down_since = now
        opened_at, self._opened_at = self._opened_at, None
        if opened_at is not None and now - opened_at >= policy.stable_after:
            self._forget()
        verdict = self._judge(ending, response, wall, asked)
        if verdict.delay is None:
            return verdict
        return self._within_limits(verdict.delay, now) or verdict

    def _judge(
        self, ending: Disconnected, response: ResponseReceived | None, wall: float, asked: bool
    ) -> Verdict:
        """Without a look at the limits."""
        policy = self._policy
        rule = rule_for(ending, response)
        decided = None if policy.decide is None else policy.decide(ending, response)
        normal = ending.was_websocket and _code_of(ending) == 1000
        if decided is None:
            retry = rule.retry or (normal and policy.on_ok) or (asked and ending.initiator is Initiator.LOCAL)
            reason = rule.why if retry is rule.retry else "it was asked for"
        elif isinstance(decided, bool):
            retry, reason = decided, "RetryPolicy.decide says so"
        else:
            _check_decided(decided)
            return Verdict(decided, "RetryPolicy.decide says so")
        if not retry:
            return Verdict(None, f"not retried: {reason}", quiet=normal or ending.ok)
        return Verdict(self._delay(rule, response, wall), reason)

    def _delay(self, rule: Rule, response: ResponseReceived | None, wall: float) -> float:
        policy, chance = self._policy, self._random()
        delay = chance * self._bound
        self._bound = min(self._bound * policy.factor, policy.maximum)
        if rule.delay is not None:
            least, most = rule.delay
            delay = max(delay, least + chance * (most - least))
        if response is not None:
            # Not all who were told the same come at the same moment.
            delay += min(_retry_after(response.headers, wall), policy.retry_after_cap)
        return delay

    def _within_limits(self, delay: float, now: float) -> Verdict | None:
        """None, or that it is time to give up."""
        policy = self._policy
        if policy.max_attempts is not None and self.attempts >= policy.max_attempts:
            return Verdict(None, f"given up: that was attempt {self.attempts} in a row (max_attempts)")
        assert self._down_since is not None
        down = self._seconds_down + now - self._down_since
        if policy.max_seconds is not None and down + delay > policy.max_seconds:
            return Verdict(
                None,
                f"given up: after {down:.1f} s without a connection the next attempt, in {delay:.1f} s, would come"
                f" after max_seconds ({policy.max_seconds:g})",
            )
        return None


def rule_for(ending: Disconnected, response: ResponseReceived | None) -> Rule:
    """The row of the table for an ending."""
    if response is not None:
        return next(rule for rule in TABLE if response.status in rule.statuses)
    if not ending.was_websocket:
        if _is_about_certificates(ending):
            return next(rule for rule in TABLE if rule.certificate)
        return next(rule for rule in TABLE if ending.cause in rule.causes)
    code = _code_of(ending)
    return next(rule for rule in TABLE if code in rule.codes)


def response_of(error: ConnectError) -> ResponseReceived | None:
    """The response of a server that refused, from what ``connect`` raised."""
    if isinstance(error, HandshakeRejected):
        return ResponseReceived(error.status, error.headers, error.body)
    return None


def check_reconnecting(retry: object, on_connected: object) -> None:
    """Look at these arguments of ``connect``.

    Raises:
        TypeError: one is wrong.
    """
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, not {retry!r}")
    if on_connected is not None and not callable(on_connected):
        raise TypeError(f"on_connected must be callable, not {on_connected!r}")


def noted(error: ErrorT, note: str) -> ErrorT:
    """The same exception, with a note."""
    error.add_note(note)
    return error


def _code_of(ending: Disconnected) -> int:
    """The Close code of the side that ended it. (``ending.code`` is always the server's, or that it gave none.)"""
    closed = ending.cause in (Cause.CLOSE_HANDSHAKE, Cause.CLOSE_TIMEOUT)
    if closed and ending.initiator is Initiator.LOCAL and ending.sent is not None:
        return ending.sent.code
    return _OUR_VERDICTS.get(ending.cause, ending.code)


def _is_about_certificates(ending: Disconnected) -> bool:
    reason = str(getattr(ending.error, "reason", None))
    return ending.cause is Cause.TLS_ERROR and any(word in reason for word in _CERTIFICATE_REASONS)


def _retry_after(headers: Headers, wall: float) -> float:
    """Seconds that a server asks to wait (RFC 9110 s10.2.3); 0 without a valid Retry-After."""
    value = headers.get("Retry-After", "")
    # Retry-After = HTTP-date / delay-seconds
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 10 else math.inf
    try:
        parsed = parsedate_tz(value)
        # The zone is always GMT, which one of the three forms of RFC 9110 s5.6.7 does not even say.
        return 0.0 if parsed is None else max(calendar.timegm(parsed[:6]) - (parsed[9] or 0) - wall, 0.0)
    except (ValueError, IndexError, OverflowError):
        return 0.0


def _check_decided(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"decide must return a bool, seconds or None, not {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"decide must not return {value!r} seconds")


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least:g} to {most:g}, not {value}")
