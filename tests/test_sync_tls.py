"""The blocking adapter over TLS, and over sockets that are not the operating system's own."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import pytest

from framebuilder import CLOSE, TEXT, client_handshake_request, close_payload
from synchelpers import (
    DEADLINE,
    Job,
    Listener,
    Raw,
    client_context,
    dial,
    port_of,
    server_context,
    serving,
    tidy,
    until,
    waits,
)
from wsframe import Cause, State
from wsframe.sync import (
    ConnectionClosedOK,
    ConnectLost,
    ConnectTimeout,
    HandshakeRejected,
    WebSocket,
    connect,
)

__all__ = ["tidy"]


def uri_of(server: Any) -> str:
    return f"wss://127.0.0.1:{port_of(server)}/"


def tls_raw(server: Any) -> Raw:
    """A bare socket with TLS, after the opening handshake of a client."""
    plain = dial(server)
    raw = Raw(client_context().wrap_socket(plain.sock, server_hostname="127.0.0.1"), masks=True)
    raw.send(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
    assert raw.head().startswith(b"HTTP/1.1 101 ")
    return raw


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [0, 100, 16_384, 70_000, 3_000_000])
def test_echo(version: ssl.TLSVersion, size: int) -> None:
    context = client_context()
    context.minimum_version = context.maximum_version = version
    with serving(ssl=server_context(), max_message_size=1 << 24) as (server, endings):
        with connect(uri_of(server), ssl=context) as ws:
            ws.send("x" * size)
            ws.send(b"y" * size)
            assert [ws.recv(), ws.recv()] == ["x" * size, b"y" * size]
            with pytest.raises(TimeoutError):
                ws.recv(timeout=0.01)
            with pytest.raises(TimeoutError):
                ws.recv(timeout=0)
        assert ws.ending is not None
        assert ws.ending.clean
        assert endings.one().clean


def test_many_messages_in_few_records() -> None:
    with serving(ssl=server_context()) as (server, _), tls_raw(server) as raw:
        raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(3000)))
        assert [raw.next_frame().payload for _ in range(3000)] == [b"%d" % number for number in range(3000)]
        raw.send_close()
        raw.rest()


def test_closing_says_close_notify() -> None:
    with serving(lambda ws: None, ssl=server_context()) as (server, _), tls_raw(server) as raw:
        assert raw.next_frame().opcode == CLOSE
        raw.send_close()
        # An end without close_notify would be an SSLEOFError.
        assert raw.sock.recv(100) == b""


def test_a_certificate_that_is_not_trusted() -> None:
    with serving(ssl=server_context()) as (server, endings):
        with pytest.raises(ConnectLost) as caught:
            connect(uri_of(server), ssl=ssl.create_default_context())
        ending = caught.value.ending
        assert (ending.cause, ending.code) == (Cause.TLS_ERROR, 1015)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert endings.one().cause is Cause.TLS_ERROR


def test_another_name_in_the_certificate() -> None:
    with serving(ssl=server_context("example.com")) as (server, _):
        with pytest.raises(ConnectLost):
            connect(uri_of(server), ssl=client_context())
        with connect(uri_of(server), ssl=client_context(), server_hostname="example.com") as ws:
            ws.send("x")
            assert ws.recv() == "x"


def test_plain_text_on_a_tls_port() -> None:
    with serving(ssl=server_context()) as (server, endings):
        with dial(server) as raw:
            raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: endings)
        ending = endings.one()
        assert (ending.cause, ending.phase) == (Cause.TLS_ERROR, State.CONNECTING)


def test_connect_and_drop() -> None:
    with serving(ssl=server_context()) as (server, endings):
        dial(server).close()
        assert endings.one().cause in (Cause.EOF, Cause.TRUNCATED)
        endings.clear()
        dial(server).reset()
        assert endings.one().cause is Cause.RESET


def test_a_mute_client_is_given_up_in_time() -> None:
    with serving(ssl=server_context(), open_timeout=0.1) as (server, endings), dial(server):
        assert endings.one().cause is Cause.OPEN_TIMEOUT


def test_a_mute_server_is_given_up_in_time() -> None:
    with Listener() as listener:
        began = time.monotonic()
        with pytest.raises(ConnectTimeout) as caught:
            connect(listener.uri.replace("ws:", "wss:"), ssl=client_context(), open_timeout=0.2)
        assert time.monotonic() - began < 2
        assert caught.value.ending.cause is Cause.OPEN_TIMEOUT


def test_a_server_that_leaves_in_the_middle_of_tls() -> None:
    with Listener() as listener:
        job = Job(lambda: connect(listener.uri.replace("ws:", "wss:"), ssl=client_context()))
        listener.accept().close()
        with pytest.raises(ConnectLost):
            job.result()


def test_an_end_without_close_notify_is_told_from_a_proper_one() -> None:
    with serving(ssl=server_context()) as (server, endings):
        with tls_raw(server) as raw:
            # The TLS layer does not hear of it.
            socket.socket.shutdown(raw.sock, socket.SHUT_WR)
            assert endings.one().cause is Cause.TLS_ERROR
        endings.clear()
        with tls_raw(server) as raw:
            assert isinstance(raw.sock, ssl.SSLSocket)
            raw.sock.unwrap()
            assert endings.one().cause is Cause.EOF


def test_beyond_max_connections_there_is_a_503() -> None:
    with (
        serving(ssl=server_context(), max_connections=1) as (server, _),
        connect(uri_of(server), ssl=client_context()) as ws,
    ):
        with pytest.raises(HandshakeRejected) as caught:
            connect(uri_of(server), ssl=client_context())
        assert caught.value.status == 503
        ws.send("x")
        assert ws.recv() == "x"


def test_a_bad_frame_over_tls() -> None:
    with serving(ssl=server_context(), close_timeout=3) as (server, endings):
        with tls_raw(server) as raw:
            raw.send(raw.frame(3))
            assert raw.next_frame().payload[:2] == close_payload(1002)
            raw.close()
        assert endings.one().cause is Cause.PROTOCOL_ERROR


def test_closing_a_server_in_the_middle_of_a_tls_handshake() -> None:
    with serving(ssl=server_context()) as (server, endings), dial(server):
        until(lambda: server.stats().connections)
        server.close()
        assert endings.one().cause is Cause.REJECTED


def test_a_tls_context_for_a_plain_uri() -> None:
    with pytest.raises(ValueError, match="wss"):
        connect("ws://127.0.0.1/", ssl=client_context())


# Sockets of another make.


class PatchedSocket(socket.socket):
    """What libraries put in the place of the socket class, to see to it that nothing blocks the process."""

    def _blocks(self) -> None:
        assert self.gettimeout() == 0.0, "a call that could block"

    def recv_into(self, *arguments: Any) -> int:
        self._blocks()
        return super().recv_into(*arguments)

    def send(self, *arguments: Any) -> int:
        self._blocks()
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        raise AssertionError("not every make of sockets has it")


def patched(sock: socket.socket) -> PatchedSocket:
    return PatchedSocket(sock.family, sock.type, sock.proto, sock.detach())


def test_foreign_sockets_are_never_blocked_in() -> None:
    ours, theirs = socket.socketpair()
    with Raw(theirs, masks=False) as raw:
        job = Job(lambda: connect("ws://example.com/", sock=patched(ours), ping_interval=None))
        raw.accept_websocket(then=b"\x81\x02hi")
        with job.result() as ws:
            assert ws.recv() == "hi"
            reader = Job(ws.recv)
            waits(reader)
            raw.send_frame(TEXT, b"ho")
            assert reader.result() == "ho"
            with pytest.raises(TimeoutError):
                ws.recv(timeout=0.02)
            sender = Job(ws.send, b"x" * (4 << 20))
            waits(sender)
            assert len(raw.next_frame().payload) == 4 << 20
            sender.result()
            reader = Job(ws.recv)
            waits(reader)
            closer = Job(ws.close)
            assert raw.next_frame().opcode == CLOSE
            raw.send_close()
            raw.shutdown()
            closer.result()
            with pytest.raises(ConnectionClosedOK):
                reader.result()


def test_a_tls_socket_that_was_made_by_somebody_else() -> None:
    with serving(ssl=server_context()) as (server, _):
        sock = client_context().wrap_socket(
            socket.create_connection(("127.0.0.1", port_of(server))), server_hostname="127.0.0.1"
        )
        with connect(f"ws://127.0.0.1:{port_of(server)}/", sock=sock) as ws:
            ws.send("x" * 100_000)
            assert ws.recv(timeout=DEADLINE) == "x" * 100_000


def test_a_tls_peer_that_takes_nothing_does_not_hold_close_up() -> None:
    def handler(ws: WebSocket) -> None:
        ws.send(b"x" * (32 << 20))

    with serving(handler, ssl=server_context(), close_timeout=0.3) as (server, endings):
        with tls_raw(server):
            time.sleep(0.1)
            assert server.close() == {Cause.CLOSE_TIMEOUT: 1}
        assert not endings.one().clean
