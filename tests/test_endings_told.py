"""How an ending is told: in words, in full, and to ASGI applications, web pages and shells. Over the whole table."""

from __future__ import annotations

import dataclasses
import enum
import json
import pickle
import re

import pytest

import wsframe
from endings_player import Player
from wsframe import (
    Cause,
    CloseCode,
    CloseFrame,
    Disconnected,
    HandshakeError,
    Initiator,
    RemoteProtocolError,
    Role,
    State,
    Transport,
)
from wsframe._http11 import HttpError
from wsframe.testing.lifecycle import ROWS, Row

ENDINGS = {row.name: Player(row).play() for row in ROWS}

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

LOST = Disconnected(
    phase=State.OPEN,
    cause=Cause.PING_TIMEOUT,
    initiator=Initiator.LOCAL,
    clean=False,
    code=1006,
    reason="",
    received=None,
    sent=CloseFrame(1011, "keepalive ping timeout"),
    received_first=False,
    was_websocket=True,
    error=None,
    last_received_age=41.23,
    unanswered_ping=20.04,
)
CLOSED = dataclasses.replace(
    LOST,
    phase=State.CLOSING,
    cause=Cause.CLOSE_HANDSHAKE,
    initiator=Initiator.REMOTE,
    clean=True,
    code=1000,
    reason="bye",
    received=CloseFrame(1000, "bye"),
    sent=CloseFrame(1000, ""),
    received_first=True,
    unanswered_ping=None,
)


# In words.

ENUMERATIONS: tuple[type[enum.Enum], ...] = (Cause, CloseCode, Initiator, Role, State, Transport)
#: Names of members that people say, too.
WORDS = {"EOF", "TLS"}
JARGON = re.compile(
    rf"\b({'|'.join({member.name for kind in ENUMERATIONS for member in kind} - WORDS)})\b|[A-Z]+_[A-Z]+|None|<"
)


@every_row
def test_one_sentence(row: Row) -> None:
    text = str(ENDINGS[row.name])
    assert re.fullmatch(r"\S[^\n]{5,250}[^\s.]", text)
    assert not JARGON.search(text), text
    assert "  " not in text
    assert ": ;" not in text


@pytest.mark.parametrize("role", Role)
def test_sentences_differ_where_endings_do(role: Role) -> None:
    told: dict[str, Row] = {}
    for row in ROWS:
        if row.role is role:
            # Ages differ from one connection to the next and are not what tells endings apart.
            text = re.sub(r"[0-9]+\.[0-9] s ", "x s ", str(ENDINGS[row.name]))
            assert told.setdefault(text, row).ending == row.ending, text


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (LOST, "lost: no Close from the peer; last byte 41.2 s ago, ping unanswered for 20.0 s"),
        (CLOSED, "closed by the peer; received Close 1000 'bye', sent Close 1000"),
        (
            dataclasses.replace(CLOSED, initiator=Initiator.LOCAL, received_first=False),
            "closed by us; sent Close 1000, received Close 1000 'bye'",
        ),
        (
            dataclasses.replace(CLOSED, received=CloseFrame(1005, ""), sent=CloseFrame(1005, "")),
            "closed by the peer; received Close without a code, sent Close without a code",
        ),
        (
            dataclasses.replace(LOST, cause=Cause.EOF, sent=None, unanswered_ping=None),
            "lost: the peer ended the stream without a Close; last byte 41.2 s ago",
        ),
        (
            dataclasses.replace(LOST, cause=Cause.RESET, sent=None, error=ConnectionResetError(104, "reset")),
            "lost: the connection was reset; last byte 41.2 s ago, ping unanswered for 20.0 s",
        ),
        (
            dataclasses.replace(
                LOST,
                cause=Cause.TRANSPORT_ERROR,
                sent=None,
                error=OSError(110, "Connection timed out"),
            ),
            "lost: [Errno 110] Connection timed out; last byte 41.2 s ago, ping unanswered for 20.0 s",
        ),
        (
            dataclasses.replace(LOST, cause=Cause.TRANSPORT_ERROR, sent=None, error=OSError()),
            "lost: OSError; last byte 41.2 s ago, ping unanswered for 20.0 s",
        ),
        (
            dataclasses.replace(
                LOST,
                cause=Cause.CLOSE_TIMEOUT,
                phase=State.CLOSING,
                sent=CloseFrame(1001, ""),
                unanswered_ping=None,
            ),
            "gave up: the peer did not answer our Close in time; sent Close 1001, last byte 41.2 s ago",
        ),
        (
            dataclasses.replace(
                LOST,
                cause=Cause.INVALID_DATA,
                sent=CloseFrame(1007, "invalid UTF-8 in a text message"),
                error=RemoteProtocolError("invalid UTF-8 in a text message", 1007),
            ),
            "failed by us: the peer sent invalid data; sent Close 1007 'invalid UTF-8 in a text message'",
        ),
        (
            dataclasses.replace(
                LOST,
                phase=State.HANDSHAKE,
                cause=Cause.REJECTED,
                initiator=Initiator.REMOTE,
                sent=None,
                was_websocket=False,
                error=HandshakeError("the server answered 403 Forbidden", 403),
            ),
            "refused by the peer: the server answered 403 Forbidden",
        ),
    ],
)
def test_what_is_said(ending: Disconnected, text: str) -> None:
    assert str(ending) == text


def test_a_sentence_stays_one_line_whatever_an_error_says() -> None:
    error = OSError("two\nlines \t and more")
    text = str(dataclasses.replace(LOST, cause=Cause.TRANSPORT_ERROR, sent=None, error=error))
    assert text.startswith("lost: two lines and more; ")
    # A peer's reason is shown as a program would write it.
    text = str(dataclasses.replace(CLOSED, received=CloseFrame(1000, "a\n\x1b[31m")))
    assert text == r"closed by the peer; received Close 1000 'a\n\x1b[31m', sent Close 1000"


# In full.


@every_row
def test_repr_is_complete(row: Row) -> None:
    ending = dataclasses.replace(ENDINGS[row.name], error=None)
    assert eval(repr(ending), vars(wsframe)) == ending
    error = ENDINGS[row.name].error
    assert f"error={error!r}, " in repr(ENDINGS[row.name])
    for field in dataclasses.fields(Disconnected):
        assert f"{field.name}=" in repr(ending)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RemoteProtocolError("no", 1007), "RemoteProtocolError('no', close_code=1007)"),
        (HandshakeError("no", 403), "HandshakeError('no', status=403)"),
        (HandshakeError("no"), "HandshakeError('no', status=None)"),
        (HttpError(431, "no", limit="max_header_line"), "HttpError('no', status=431)"),
    ],
)
def test_repr_of_errors(error: Exception, text: str) -> None:
    assert repr(error) == text


@every_row
def test_an_ending_can_be_pickled(row: Row) -> None:
    ending = dataclasses.replace(ENDINGS[row.name], error=None)
    assert pickle.loads(pickle.dumps(ending)) == ending


# To others.


@every_row
def test_a_web_page(row: Row) -> None:
    event = ENDINGS[row.name].close_event()
    assert json.loads(json.dumps(event)) == event
    assert list(event) == ["code", "reason", "wasClean"]
    if row.received is None:
        # s7.1.5: without a Close frame the code is 1006, and there is no reason. WHATWG: why a connection could not be
        # established is not told to pages, so a failed TLS handshake is 1006 as well.
        assert event == {"code": 1006, "reason": "", "wasClean": False}
    else:
        # s7.1.4: cleanly means after the closing handshake, and that has both frames.
        both = row.sent is not None
        assert event == {"code": row.received.code, "reason": row.received.reason, "wasClean": both}


def test_what_web_pages_never_see() -> None:
    codes = {ending.close_event()["code"] for ending in ENDINGS.values()}
    assert codes == {1000, 1001, 1005, 1006, 1011, 1012, 4001}
    assert {1015} == {ending.code for ending in ENDINGS.values()} - codes


@every_row
def test_an_asgi_application(row: Row) -> None:
    event = ENDINGS[row.name].asgi_event()
    assert event == {"type": "websocket.disconnect", "code": row.code, "reason": row.reason}
    if row.opens:
        assert event["code"] == (1006 if row.received is None else row.received.code)


@every_row
def test_a_shell(row: Row) -> None:
    ending = ENDINGS[row.name]
    if not row.opens:
        assert ending.exit_status == 3
        assert not ending.ok
    elif row.clean and row.received is not None and row.received.code in (1000, 1001, 1005):
        assert ending.exit_status == 0
        assert ending.ok
    else:
        assert ending.exit_status == 1
        assert not ending.ok
