"""What the adapters share: the receive queue, the settings, the exceptions."""

from __future__ import annotations

import gc
import pickle
import re
import ssl
from typing import Any

import pytest

from wsframe import (
    Cause,
    CloseFrame,
    Disconnected,
    Headers,
    Initiator,
    Limits,
    Message,
    Opcode,
    PermessageDeflate,
    ResponseReceived,
    Role,
    State,
    Timeouts,
    WsframeError,
    _backend,
)
from wsframe._adapter._exceptions import closed_error, connect_error
from wsframe._adapter._proxy import ProxyFailure
from wsframe._adapter._settings import ConnectionOptions, settings_for
from wsframe.aio import (
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    ConnectLost,
    ConnectTimeout,
    HandshakeInvalid,
    HandshakeRejected,
    ProxyError,
)


def message(size: int = 1) -> Message:
    return Message(bytes(size), Opcode.BINARY)


def ending(cause: Cause = Cause.CLOSE_HANDSHAKE, **changes: Any) -> Disconnected:
    values: dict[str, Any] = {
        "phase": State.OPEN,
        "cause": cause,
        "initiator": Initiator.REMOTE,
        "clean": False,
        "code": 1006,
        "reason": "",
        "received": None,
        "sent": None,
        "received_first": None,
        "was_websocket": True,
        "error": None,
        "last_received_age": None,
    }
    return Disconnected(**(values | changes))


def clean(code: int, reason: str = "") -> Disconnected:
    frame = CloseFrame(code, reason)
    return ending(clean=True, code=code, reason=reason, received=frame, sent=frame, received_first=True)


# The queue.


def new_queue(messages: int = 16, size: int = 262144) -> Any:
    # Not by its name, which would stand for one codec's alone.
    return _backend.ReceiveQueue(messages, size)


def new_inbox() -> Any:
    def nothing(*_: object) -> None:
        return None

    return _backend.Inbox(16, 262144, None, nothing, Exception, None)


def test_the_queue_gives_what_it_took_in_order() -> None:
    queue = new_queue()
    messages = [Message(str(number), Opcode.TEXT) for number in range(5)]
    for item in messages:
        queue.put(item)
    assert len(queue) == 5
    assert [queue.get() for _ in range(5)] == messages
    assert not queue
    with pytest.raises(IndexError):
        queue.get()


def test_the_queue_is_full_at_its_count_and_again_free_at_half_of_it() -> None:
    queue = new_queue(messages=4)
    for _ in range(3):
        queue.put(message())
        assert not queue.full
    queue.put(message())
    assert queue.full
    # Full says "do not read on"; what was read already is taken all the same.
    queue.put(message())
    assert len(queue) == 5
    for full in (True, True, False, False, False):
        queue.get()
        assert queue.full is full


def test_the_queue_is_full_at_its_bytes_too() -> None:
    queue = new_queue(size=100)
    seen = []
    for size in (99, 1, None, 1000, None, None):
        if size is None:
            queue.get()
        else:
            queue.put(message(size))
        seen.append(queue.full)
    assert seen == [False, True, False, True, True, False]


def test_a_queue_of_one() -> None:
    queue = new_queue(messages=1)
    for _ in range(2):
        queue.put(message())
        assert queue.full is True
        queue.get()
        assert [queue.full, len(queue)] == [False, 0]


@pytest.mark.parametrize("take", [False, True])
def test_a_queue_that_never_becomes_empty_keeps_no_more_than_it_holds(take: bool) -> None:
    queue = new_inbox() if take else new_queue()
    expected: list[Message] = []
    most = 0
    for number in range(1000):
        new = [Message(str(number * 2 + i), Opcode.TEXT) for i in range(2)]
        expected += new
        if take:
            queue.take(list(new))
        else:
            for item in new:
                queue.put(item)
        for _ in range(2 if number > 5 else 1):
            assert queue.get() is expected.pop(0)
        assert queue.items == expected
        assert len(queue) == len(expected) > 0
        most = max(most, len(gc.get_referents(*gc.get_referents(queue))))
    # The list is there, and not longer than what was taken since it was last shortened.
    assert 5 < most < 200


# The settings.


@pytest.mark.parametrize("role", Role)
def test_the_defaults_are_those_of_the_role(role: Role) -> None:
    settings = settings_for(role, {})
    assert settings.limits == Limits.for_role(role)
    assert settings.timeouts == Timeouts()
    assert settings.extensions == ()


def test_every_keyword_arrives() -> None:
    settings = settings_for(
        Role.SERVER,
        {
            "compression": True,
            "max_message_size": 5,
            "open_timeout": 1,
            "close_timeout": 2,
            "ping_interval": 3,
            "ping_timeout": None,
            "idle_timeout": 4,
            "limits": Limits(max_fragments=7),
        },
    )
    assert settings.limits == Limits(max_fragments=7, max_message_size=5)
    assert settings.timeouts == Timeouts(open=1, close=2, ping_interval=3, ping_timeout=None, idle=4)
    assert settings.extensions == (PermessageDeflate(),)


def test_compression_can_be_given_in_detail() -> None:
    deflate = PermessageDeflate()
    assert settings_for(Role.CLIENT, {"compression": deflate}).extensions == (deflate,)
    assert settings_for(Role.CLIENT, {"compression": False}).extensions == ()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ping_intervall": 1}, TypeError, "'ping_intervall'; these options exist: .*ping_interval"),
        ({"compression": "deflate"}, TypeError, "compression"),
        ({"compression": None}, TypeError, "compression"),
        ({"limits": {}}, TypeError, "limits"),
        ({"max_message_size": "1 MiB"}, TypeError, "max_message_size"),
        ({"max_message_size": -1}, ValueError, "max_message_size"),
        ({"open_timeout": None}, ValueError, "open"),
        ({"close_timeout": float("nan")}, ValueError, "close"),
        ({"ping_timeout": 0}, ValueError, "ping_timeout"),
    ],
)
def test_wrong_options_are_named(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        settings_for(Role.SERVER, options)


def test_every_option_is_documented() -> None:
    assert ConnectionOptions.__doc__ is not None
    for name in ConnectionOptions.__annotations__:
        assert re.search(rf"^ +{name}: ", ConnectionOptions.__doc__, re.MULTILINE)


# The exceptions.


@pytest.mark.parametrize("code", [1000, 1001, 1005])
def test_a_clean_end_with_a_good_code_is_ok(code: int) -> None:
    error = closed_error(clean(code, "bye"))
    assert type(error) is ConnectionClosedOK
    assert (error.code, error.reason, str(error)) == (code, "bye", str(error.ending))


@pytest.mark.parametrize(
    "end",
    [
        clean(1011),
        clean(4000),
        ending(),
        ending(Cause.EOF),
        # The peer said 1000, but only half of the closing handshake took place.
        ending(Cause.CLOSE_TIMEOUT, code=1000, received=CloseFrame(1000, "")),
    ],
)
def test_any_other_end_is_an_error(end: Disconnected) -> None:
    error = closed_error(end)
    assert type(error) is ConnectionClosedError
    assert isinstance(error, (ConnectionClosed, WsframeError))
    # As what a socket raises. A good end is no error.
    assert isinstance(error, ConnectionError)
    assert not isinstance(closed_error(clean(1000)), OSError)
    assert error.ending is end


@pytest.mark.parametrize(
    ("cause", "kind", "also"),
    [
        (Cause.OPEN_TIMEOUT, ConnectTimeout, TimeoutError),
        (Cause.PROTOCOL_ERROR, HandshakeInvalid, OSError),
        (Cause.NOT_HTTP, HandshakeInvalid, OSError),
        (Cause.EOF, ConnectLost, ConnectionError),
        (Cause.RESET, ConnectLost, ConnectionError),
        (Cause.TLS_ERROR, ConnectLost, ConnectionError),
        (Cause.TRANSPORT_ERROR, ConnectLost, ConnectionError),
        (Cause.LOCAL_ABORT, ConnectLost, ConnectionError),
    ],
)
def test_the_errors_of_connect(cause: Cause, kind: type[ConnectError], also: type[Exception]) -> None:
    end = ending(cause, was_websocket=False, phase=State.HANDSHAKE)
    error = connect_error(end, None)
    assert type(error) is kind
    assert isinstance(error, also)
    assert isinstance(error, OSError)
    assert error.ending is end
    assert str(error) == str(end)


def test_a_refusal_carries_the_response() -> None:
    response = ResponseReceived(403, Headers([("X", "1")]), b"no")
    error = connect_error(ending(Cause.REJECTED, was_websocket=False), response)
    assert isinstance(error, HandshakeRejected)
    assert isinstance(error, OSError)
    assert (error.status, error.headers["X"], error.body) == (403, "1", b"no")


@pytest.mark.parametrize(
    "error",
    [
        closed_error(clean(1000)),
        closed_error(ending(Cause.EOF)),
        connect_error(ending(Cause.OPEN_TIMEOUT), None),
        connect_error(ending(Cause.EOF), None),
        connect_error(ending(Cause.REJECTED), ResponseReceived(403, Headers(), b"no")),
        connect_error(ending(Cause.REJECTED), ResponseReceived(403, Headers(), b"no"), "some advice"),
        connect_error(ending(Cause.NOT_HTTP), None),
        connect_error(ending(Cause.OPEN_TIMEOUT), None, "some advice"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_can_be_pickled(error: Any) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.ending == error.ending
    assert str(copy) == str(error)
    if isinstance(error, HandshakeRejected):
        assert (copy.status, copy.body) == (403, b"no")


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "whatever"
    return error


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (9, "clock"),
        (10, "expired"),
        (18, "cafile"),
        (19, "cafile"),
        (20, "cafile"),
        (62, "server_hostname="),
        (64, "server_hostname="),
        (23, "pass ssl="),
    ],
)
def test_one_line_about_certificates(code: int, advice: str) -> None:
    end = ending(Cause.TLS_ERROR, error=certificate_error(code), was_websocket=False)
    error = connect_error(end, None)
    assert type(error) is ConnectLost
    shown = str(error)
    assert shown.startswith(f"{end}; ")
    assert advice in shown.removeprefix(str(end))
    assert "\n" not in shown
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == shown
    assert copy.ending.error.verify_code == code


def test_the_failure_of_a_proxy() -> None:
    end = ending(
        Cause.TRANSPORT_ERROR, error=ProxyFailure("the proxy p answered 407", 407), was_websocket=False
    )
    error = connect_error(end, None)
    assert isinstance(error, ProxyError)
    assert isinstance(error, ConnectionError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.status) == (ProxyError, str(error), 407)
