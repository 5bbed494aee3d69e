"""Our servers with the client of websocket-client."""

from __future__ import annotations

from typing import Any

import pytest
import websocket

from peerhelpers import against, both_adapters
from synchelpers import DEADLINE, client_context, server_context, tidy
from wsframe import Initiator

__all__ = ["tidy"]

pytestmark = pytest.mark.peer

TEXT = "héllo " * 150_000
BINARY = bytes(range(256)) * 4096


def dial(uri: str, **options: Any) -> Any:
    return websocket.create_connection(uri, timeout=DEADLINE, **options)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@both_adapters
def test_messages_pings_and_the_clients_close(adapter: str, secure: bool) -> None:
    def talk(uri: str) -> None:
        ws = dial(uri, subprotocols=["a", "b"], sslopt={"context": client_context()} if secure else None)
        try:
            assert ws.subprotocol == "b"
            for message in (TEXT, "", "x"):
                ws.send(message)
                assert ws.recv() == message
            for data in (BINARY, b"", b"\x00"):
                ws.send_binary(data)
                assert ws.recv() == data
            ws.ping(b"?")
            opcode, frame = ws.recv_data_frame(control_frame=True)
            assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"?")
            # It answers a ping while it waits for a message.
            ws.send("ping")
            assert ws.recv() == "ping"
        finally:
            ws.close(4000, b"bye")

    options: dict[str, Any] = {"ssl": server_context()} if secure else {}
    _, (ending,) = against(adapter, talk, subprotocols=["b", "a"], **options)
    assert (ending.clean, ending.code, ending.reason) == (True, 4000, "bye")
    assert ending.initiator is Initiator.REMOTE


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (4999, "ü" * 60)])
@both_adapters
def test_our_close(adapter: str, code: int, reason: str) -> None:
    def talk(uri: str) -> bytes:
        ws = dial(uri)
        try:
            ws.send(f"close {code} {reason}")
            opcode, frame = ws.recv_data_frame()
        finally:
            ws.shutdown()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        payload = frame.data
        assert isinstance(payload, bytes)
        return payload

    seen, (ending,) = against(adapter, talk)
    assert seen == code.to_bytes(2, "big") + reason.encode()
    # It answers every Close with 1000.
    assert (ending.clean, ending.code, ending.initiator) == (True, 1000, Initiator.LOCAL)


@both_adapters
def test_a_refusal(adapter: str) -> None:
    def talk(uri: str) -> int | None:
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            dial(uri, origin="https://elsewhere.example")
        status: int | None = caught.value.status_code
        return status

    seen, (ending,) = against(adapter, talk)
    assert seen == 403
    assert not ending.was_websocket
