"""The retry policy: what its table says of every ending, delays and limits, without a clock and without chance."""

from __future__ import annotations

import calendar
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsframe import Cause, CloseFrame, Disconnected, Headers, Initiator, ResponseReceived, State
from wsframe._adapter._exceptions import ConnectLost, HandshakeRejected
from wsframe._adapter._retry import TABLE, Retry, Rule, Verdict, noted, response_of, rule_for
from wsframe.aio import RetryPolicy

PAGE = Path(__file__).resolve().parents[1] / "docs" / "client.md"

#: 1994-11-06 08:49:37 GMT, which RFC 9110 takes for its examples.
EXAMPLE = 784111777.0


def ended(cause: Cause = Cause.CLOSE_HANDSHAKE, code: int = 1006, **fields: Any) -> Disconnected:
    """How a connection has ended that was a WebSocket, and was closed by the server."""
    values: dict[str, Any] = {
        "phase": State.OPEN,
        "cause": cause,
        "initiator": Initiator.REMOTE,
        "clean": cause is Cause.CLOSE_HANDSHAKE,
        "code": code,
        "reason": "",
        "received": CloseFrame(code, "") if cause is Cause.CLOSE_HANDSHAKE else None,
        "sent": CloseFrame(code, "") if cause is Cause.CLOSE_HANDSHAKE else None,
        "received_first": True if cause is Cause.CLOSE_HANDSHAKE else None,
        "was_websocket": True,
        "error": None,
        "last_received_age": 0.0,
    }
    return Disconnected(**{**values, **fields})


def failed(cause: Cause, **fields: Any) -> Disconnected:
    """How a connection has ended that never was a WebSocket."""
    return ended(cause, phase=State.HANDSHAKE, was_websocket=False, **fields)


def refused(status: int, **headers: str) -> tuple[Disconnected, ResponseReceived]:
    """What comes of an answer other than 101."""
    lines = Headers([(name.replace("_", "-"), value) for name, value in headers.items()])
    return failed(Cause.REJECTED), ResponseReceived(status, lines, b"")


def retry(chance: float = 0.5, **policy: Any) -> Retry:
    return Retry(RetryPolicy(**policy), lambda: chance)


def verdict_on(ending: Disconnected, response: ResponseReceived | None = None, **policy: Any) -> Verdict:
    """What comes after the first attempt."""
    attempts = retry(**policy)
    attempts.begin(0)
    return attempts.lost(ending, response, 1, EXAMPLE)


# The table.

STOP, AGAIN = False, True

#: As the documentation promises; whoever changes one of these breaks a promise.
STATUSES = {
    **dict.fromkeys((401, 403, 404), STOP),
    **dict.fromkeys((408, 425, 429), AGAIN),
    **dict.fromkeys((500, 501, 502, 503, 504, 511, 520, 599), AGAIN),
    **dict.fromkeys((0, 200, 204, 301, 302, 307, 308, 400, 402, 405, 407, 410, 426, 431, 600, 999), STOP),
}
CODES = {
    **dict.fromkeys((1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003), STOP),
    **dict.fromkeys((1001, 1005, 1006, 1011, 1012, 1013, 1014), AGAIN),
    **dict.fromkeys((1015, 1016, 2999, 3001, 3002, 3008, 3999, 4000, 4999), AGAIN),
}
FAILURES = {
    **dict.fromkeys((Cause.PROTOCOL_ERROR, Cause.NOT_HTTP), STOP),
    **dict.fromkeys(
        (
            *(Cause.EOF, Cause.TRUNCATED, Cause.RESET, Cause.TLS_ERROR, Cause.TRANSPORT_ERROR),
            Cause.OPEN_TIMEOUT,
        ),
        AGAIN,
    ),
}


@pytest.mark.parametrize("status", STATUSES)
def test_statuses(status: int) -> None:
    verdict = verdict_on(*refused(status))
    assert (verdict.delay is not None) is STATUSES[status]
    assert not verdict.quiet


@pytest.mark.parametrize("code", CODES)
def test_close_codes(code: int) -> None:
    verdict = verdict_on(ended(code=code))
    assert (verdict.delay is not None) is CODES[code]
    assert verdict.quiet is (code == 1000)


@pytest.mark.parametrize("cause", FAILURES)
def test_failures_to_connect(cause: Cause) -> None:
    verdict = verdict_on(failed(cause))
    assert (verdict.delay is not None) is FAILURES[cause]
    assert not verdict.quiet


def test_there_is_a_row_for_everything_and_none_too_many() -> None:
    expired = certificate_error("CERTIFICATE_VERIFY_FAILED")
    found = [
        *(rule_for(*refused(status)) for status in range(1000)),
        *(rule_for(ended(code=code), None) for code in range(5000)),
        *(rule_for(failed(cause), None) for cause in Cause),
        rule_for(failed(Cause.TLS_ERROR, error=expired), None),
    ]
    assert all(rule in found for rule in TABLE)


def certificate_error(reason: str) -> ssl.SSLError:
    """As OpenSSL's come."""
    error = ssl.SSLCertVerificationError(1, f"[SSL: {reason}] something (_ssl.c:1000)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        ("CERTIFICATE_VERIFY_FAILED", False),
        ("TLSV1_ALERT_UNKNOWN_CA", False),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", False),
        ("SSLV3_ALERT_BAD_CERTIFICATE", False),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", False),
        ("UNEXPECTED_EOF_WHILE_READING", True),
        ("TLSV1_ALERT_INTERNAL_ERROR", True),
    ],
)
def test_certificates(reason: str, again: bool) -> None:
    verdict = verdict_on(failed(Cause.TLS_ERROR, error=certificate_error(reason)))
    assert (verdict.delay is not None) is again
    if not again:
        assert verdict.reason == "not retried: a certificate was not accepted"


def test_what_we_found_wrong_counts_as_the_close_code_that_says_so() -> None:
    local: dict[str, Any] = {"initiator": Initiator.LOCAL, "code": 1006}
    assert verdict_on(ended(Cause.PROTOCOL_ERROR, **local, sent=CloseFrame(1002, ""))).delay is None
    assert verdict_on(ended(Cause.INVALID_DATA, **local, sent=CloseFrame(1007, ""))).delay is None
    assert verdict_on(ended(Cause.TOO_BIG, **local, sent=CloseFrame(1009, ""))).delay is None
    # That Close did not get out.
    assert verdict_on(ended(Cause.TOO_BIG, **local)).delay is None
    for cause, code in ((Cause.PING_TIMEOUT, 1011), (Cause.SLOW_PEER, 1013), (Cause.IDLE_TIMEOUT, 1001)):
        assert verdict_on(ended(cause, **local, sent=CloseFrame(code, ""))).delay is not None
    assert verdict_on(ended(Cause.LOCAL_ABORT, **local)).delay is not None


def test_who_closes_first_decides() -> None:
    # `ws.close()`, and the server's Close with another code was already on its way.
    crossed = ended(code=1001, initiator=Initiator.LOCAL, sent=CloseFrame(1000, ""), received_first=False)
    assert verdict_on(crossed) == Verdict(None, "not retried: it was closed because all was done", quiet=True)
    # The server never answered it.
    unanswered = ended(Cause.CLOSE_TIMEOUT, initiator=Initiator.LOCAL, sent=CloseFrame(1000, ""))
    assert unanswered.code == 1006
    assert verdict_on(unanswered).quiet
    # The server wanted something else, and we said 1000 to that.
    assert verdict_on(ended(code=1012, sent=CloseFrame(1000, ""))).delay is not None
    # It closed with 1000, and then there was no way to answer.
    lost = ended(Cause.RESET, code=1000, received=CloseFrame(1000, ""), initiator=Initiator.TRANSPORT)
    assert verdict_on(lost).quiet


def test_1000_when_asked_for() -> None:
    assert verdict_on(ended(code=1000), on_ok=True) == Verdict(2.5, "it was asked for")
    attempts = retry()
    attempts.begin(0)
    attempts.opened(1)
    ours = ended(code=1000, initiator=Initiator.LOCAL)
    assert attempts.lost(ours, None, 2, 0, asked=True) == Verdict(2.5, "it was asked for")
    # It was the server, before we could.
    assert attempts.lost(ended(code=1008), None, 2, 0, asked=True).delay is None
    assert attempts.lost(ours, None, 2, 0).delay is None


# decide.


def test_decide_comes_first() -> None:
    heard: list[tuple[Disconnected, ResponseReceived | None]] = []
    answers: list[bool | float | None] = [True, False, 7.5, 0, None, None]

    def decide(ending: Disconnected, response: ResponseReceived | None) -> bool | float | None:
        heard.append((ending, response))
        return answers.pop(0)

    attempts = retry(decide=decide)
    not_found = refused(404)
    expected = [2.5, None, 7.5, 0, None]
    for delay in expected:
        assert attempts.lost(*not_found, 0, 0).delay == delay
    assert attempts.lost(ended(code=1000), None, 0, 0).quiet
    assert heard == [not_found] * 5 + [(ended(code=1000), None)]


def test_decide_stops_after_a_good_end_quietly() -> None:
    assert verdict_on(ended(code=1001), decide=lambda *_: False).quiet
    assert not verdict_on(ended(code=1011), decide=lambda *_: False).quiet


def test_an_answer_of_decide_that_says_nothing() -> None:
    for wrong in ("yes", (1, 2), 1j):
        with pytest.raises(TypeError, match="decide must return a bool, seconds or None"):
            verdict_on(ended(), decide=lambda *_, wrong=wrong: wrong)
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="decide must not return"):
            verdict_on(ended(), decide=lambda *_, value=value: value)


# Delays.


def test_delays_grow_up_to_the_cap() -> None:
    for chance in (0.0, 0.25, 0.999):
        attempts = retry(chance)
        delays = []
        for _ in range(7):
            attempts.begin(0)
            delays.append(attempts.lost(failed(Cause.TRANSPORT_ERROR), None, 0, 0).delay)
        assert delays == [chance * bound for bound in (5, 10, 20, 40, 60, 60, 60)]


def test_a_restart_takes_5_to_30_seconds() -> None:
    assert verdict_on(ended(code=1012), chance=0.0).delay == 5
    assert verdict_on(ended(code=1012), chance=0.5).delay == 17.5
    assert 29.9 < (verdict_on(ended(code=1012), chance=0.999).delay or 0) < 30
    # A server that does nothing but restart.
    attempts = retry(0.9)
    for _ in range(10):
        verdict = attempts.lost(ended(code=1012), None, 0, 0)
    assert verdict.delay == 0.9 * 60


policies = st.builds(
    RetryPolicy,
    initial=st.floats(0.01, 10),
    factor=st.floats(1, 10),
    maximum=st.floats(10, 1000),
    stable_after=st.floats(1, 1000),
)
chances = st.floats(0, 1, exclude_max=True)
#: An attempt that fails after so many seconds, or (True) a connection that is lost after so many.
rounds = st.tuples(st.booleans(), st.floats(0, 2000), chances)


@given(policies, st.lists(rounds, max_size=40))
def test_every_delay_is_the_backoff_s(policy: RetryPolicy, story: list[tuple[bool, float, float]]) -> None:
    now, exponent, attempt = 100.0, 0, 0
    chance = 0.0
    attempts = Retry(policy, lambda: chance)
    for opens, seconds, chance in story:
        attempts.begin(now)
        attempt += 1
        assert attempts.attempts == attempt
        ending = failed(Cause.RESET)
        if opens:
            ending = ended(Cause.EOF)
            attempts.opened(now)
        before, now = now, now + seconds
        if opens and now - before >= policy.stable_after:
            exponent = attempt = 0
        verdict = attempts.lost(ending, None, now, 0)
        assert verdict.delay is not None
        try:
            bound = min(policy.initial * policy.factor**exponent, policy.maximum)
        except OverflowError:
            bound = policy.maximum
        assert verdict.delay == pytest.approx(chance * bound)
        assert 0 <= verdict.delay <= policy.maximum
        exponent += 1
        now += verdict.delay


def test_only_a_stable_connection_begins_anew() -> None:
    attempts = retry(stable_after=60)
    delays = []
    for lasts in (59.9, 0, 60, 3600, 1):
        attempts.begin(0)
        attempts.opened(10)
        delays.append(attempts.lost(ended(), None, 10 + lasts, 0).delay)
    assert delays == [2.5, 5, 2.5, 2.5, 5]


# Retry-After.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("007", 7),
        ("299", 299),
        ("301", 300),
        ("9" * 5000, 300),
        # RFC 9110 s5.6.7: the preferred form, and the two that are obsolete.
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
        ("Sun Nov  6 08:50:37 1994", 60),
        # Not allowed, and clear all the same.
        ("Sun, 06 Nov 1994 09:50:37 +0100", 60),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", 300),
        # None of these says anything.
        ("", 0),
        ("-5", 0),
        ("1.5", 0),
        ("1e3", 0),
        ("\u0662", 0),
        ("soon", 0),
        ("10, 20", 0),
        ("Sun, 99 Foo 1994 08:49:37 GMT", 0),
        ("Sun, 06 Nov 99999999999999 08:49:37 GMT", 0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    ending, response = refused(503)
    object.__setattr__(response, "headers", FakeHeaders(value))
    assert verdict_on(ending, response).delay == 2.5 + seconds


class FakeHeaders:
    """What is not Latin-1 has no place in real ones."""

    def __init__(self, value: str) -> None:
        self._value = value

    def get(self, name: str, default: str) -> str:
        assert name == "Retry-After"
        return self._value


def test_retry_after_is_for_whatever_is_retried_and_nothing_else() -> None:
    for status in (408, 425, 429, 500, 503):
        assert verdict_on(*refused(status, Retry_After="10")).delay == 12.5
    assert verdict_on(*refused(404, Retry_After="10")).delay is None
    assert verdict_on(*refused(404, Retry_After="10"), decide=lambda *_: True).delay == 12.5
    assert verdict_on(*refused(503, Retry_After="10"), decide=lambda *_: 1).delay == 1
    assert verdict_on(*refused(503, Retry_After="10"), retry_after_cap=3).delay == 5.5


@given(
    st.text(max_size=60) | st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,12} [\d:]{1,12} \S{0,6}", fullmatch=True)
)
def test_no_retry_after_breaks_anything(value: str) -> None:
    ending, response = refused(503)
    object.__setattr__(response, "headers", FakeHeaders(value))
    delay = verdict_on(ending, response).delay
    assert delay is not None
    assert 2.5 <= delay <= 302.5


@given(st.integers(0, 4102444800), st.integers(0, 300))
def test_a_date_of_any_time(wall: int, ahead: int) -> None:
    from email.utils import formatdate

    ending, response = refused(503, Retry_After=formatdate(wall + ahead, usegmt=True))
    attempts = retry(0.0)
    attempts.begin(0)
    assert attempts.lost(ending, response, 0, float(wall)).delay == ahead


def test_the_example_s_time() -> None:
    assert calendar.timegm((1994, 11, 6, 8, 49, 37)) == EXAMPLE


# Giving up.


def test_attempts_in_a_row() -> None:
    attempts = retry(max_attempts=3)
    for number in (1, 2, 3):
        attempts.begin(0)
        verdict = attempts.lost(failed(Cause.RESET), None, 0, 0)
        assert (verdict.delay is None) is (number == 3)
    assert verdict == Verdict(None, "given up: that was attempt 3 in a row (max_attempts)")
    attempts = retry(max_attempts=1)
    # One that was stable is not counted, one that was not is.
    for _ in range(3):
        attempts.begin(0)
        attempts.opened(0)
        assert attempts.lost(ended(), None, 60, 0).delay is not None
    attempts.begin(60)
    attempts.opened(60)
    assert attempts.lost(ended(), None, 119, 0).delay is None


def test_what_is_not_retried_is_not_given_up() -> None:
    attempts = retry(max_attempts=1)
    attempts.begin(0)
    assert attempts.lost(*refused(403), 0, 0).reason.startswith("not retried: ")
    assert attempts.lost(ended(code=1000), None, 0, 0).quiet
    # A good end that was to be retried is no reason to be quiet about the limit.
    verdict = attempts.lost(ended(code=1001), None, 0, 0)
    assert (verdict.delay, verdict.quiet) == (None, False)


def test_seconds_without_a_connection() -> None:
    attempts = retry(max_seconds=30, stable_after=60)
    attempts.begin(100)
    assert attempts.lost(failed(Cause.RESET), None, 110, 0).delay == 2.5
    attempts.begin(112.5)
    # This time is not counted.
    attempts.opened(113)
    assert attempts.lost(ended(), None, 163, 0).delay == 5
    attempts.begin(168)
    verdict = attempts.lost(failed(Cause.RESET), None, 169, 0)
    assert verdict.delay == 10
    attempts.begin(179)
    # 13 s before that connection, and 16 s since.
    verdict = attempts.lost(failed(Cause.RESET), None, 179, 0)
    assert verdict == Verdict(
        None,
        "given up: after 29.0 s without a connection the next attempt, in 20.0 s, would come after max_seconds (30)",
    )
    # A stable one, and all is forgotten.
    attempts.begin(200)
    attempts.opened(200)
    assert attempts.lost(ended(), None, 260, 0).delay == 2.5


@given(st.floats(1, 1000), st.lists(st.tuples(st.floats(0, 100), chances), min_size=1, max_size=30))
def test_no_attempt_begins_after_max_seconds(limit: float, story: list[tuple[float, float]]) -> None:
    now, chance = 50.0, 0.0
    attempts = Retry(RetryPolicy(max_seconds=limit), lambda: chance)
    for seconds, chance in story:  # noqa: B007
        attempts.begin(now)
        now += seconds
        verdict = attempts.lost(failed(Cause.EOF), None, now, 0)
        if verdict.delay is None:
            assert verdict.reason.startswith("given up: ")
            break
        now += verdict.delay
        assert now - 50 <= limit + 1e-6


def test_an_attempt_that_was_broken_off_counts_and_does_not_disturb() -> None:
    attempts = retry(stable_after=60)
    attempts.begin(0)
    assert attempts.lost(failed(Cause.EOF), None, 0, 0).delay == 2.5
    attempts.begin(1)
    attempts.opened(2)
    attempts.begin(1000)
    assert attempts.attempts == 3
    # It is not known how long that connection has lasted.
    assert attempts.lost(failed(Cause.EOF), None, 1000, 0).delay == 5


# Arguments.


def test_the_defaults() -> None:
    assert RetryPolicy() == RetryPolicy(
        initial=5,
        factor=2,
        maximum=60,
        stable_after=60,
        max_attempts=None,
        max_seconds=None,
        retry_after_cap=300,
        on_ok=False,
        decide=None,
    )
    with pytest.raises(AttributeError):
        RetryPolicy().initial = 3  # type: ignore[misc]


SECONDS = ["initial", "maximum", "stable_after", "retry_after_cap", "max_seconds"]


@pytest.mark.parametrize("name", [*SECONDS, "factor", "max_attempts", "on_ok", "decide"])
def test_a_wrong_type_is_named(name: str) -> None:
    wrongs: list[Any] = ["1", [1]]
    if name not in ("on_ok", "decide"):
        wrongs.append(True)
    if name in ("max_attempts", "on_ok"):
        wrongs.append(1.5)
    if name not in ("max_attempts", "max_seconds", "decide"):
        wrongs.append(None)
    for wrong in wrongs:
        with pytest.raises(TypeError, match=f"^{name} must be "):
            RetryPolicy(**{name: wrong})


@pytest.mark.parametrize("name", [*SECONDS, "factor", "max_attempts"])
def test_a_value_out_of_range_is_named(name: str) -> None:
    values: list[Any] = [0, -1]
    if name != "max_attempts":
        values.append(float("nan"))
    if name not in ("max_attempts", "max_seconds"):
        values += [float("inf"), 100_000]
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be from "):
            RetryPolicy(**{name: value})


def test_initial_is_not_above_maximum() -> None:
    with pytest.raises(ValueError, match=r"initial \(5\) must not be above maximum \(3\)"):
        RetryPolicy(maximum=3)
    assert RetryPolicy(initial=3, maximum=3).initial == 3


# Besides.


def test_what_an_exception_of_connect_has_of_the_response() -> None:
    ending, response = refused(503, Retry_After="1")
    assert response_of(HandshakeRejected(ending, response)) == response
    assert response_of(ConnectLost(failed(Cause.EOF))) is None
    assert noted(ValueError("x"), "because").__notes__ == ["because"]


def row(rule: Rule) -> str:
    """A row as it stands in the documentation."""
    then = "again" if rule.retry else "stop"
    if rule.delay is not None:
        then += " after {:g} to {:g} s".format(*rule.delay)
    return f"| {subject(rule)} | {then} | {rule.why} |"


def subject(rule: Rule) -> str:
    if rule.certificate:
        return "TLS: a certificate"
    if rule.causes:
        causes = [] if len(rule.causes) == len(Cause) else [f"`{cause.name}`" for cause in rule.causes]
        return f"no WebSocket: {', '.join(causes) or 'anything else'}"
    name, numbers = ("HTTP", rule.statuses) if rule.statuses else ("Close", rule.codes)
    return f"{name} {spelled(numbers)}"


def spelled(numbers: Sequence[int]) -> str:
    if isinstance(numbers, range):
        return "anything else" if numbers.start == 0 else f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(map(str, numbers))


def test_the_table_in_the_documentation() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| (?:HTTP|TLS|no WebSocket|Close).*\|$", page, re.MULTILINE) == list(
        map(row, TABLE)
    )
