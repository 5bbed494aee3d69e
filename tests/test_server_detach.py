"""``Server.detach``: the connection goes to a host, with every byte that came."""

from __future__ import annotations

import pytest

import framebuilder as fb
from handshakes import PLAIN, REQUEST, Driver, check_ending
from wsframe import Cause, Initiator, Server, State, Transport

FRAMES = fb.build(fb.TEXT, b"Hello", mask=fb.SAMPLE_MASK) * 3
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"\r\n",
        b"G",
        b"GET / HTTP/1.1\r\nHo",
        PLAIN,
        PLAIN + PLAIN,
        POST[:-3],
        POST,
        POST + PLAIN,
        REQUEST,
        REQUEST + FRAMES,
        REQUEST + bytes(64 * 1024),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_all_bytes_untouched(received: bytes, size: int) -> None:
    if size == 1 and len(received) > 1000:
        return
    server = Server()
    driver = Driver(server)
    for begin in range(0, len(received), size):
        driver.feed(received[begin : begin + size])
    phase = server.state
    assert phase in (State.CONNECTING, State.HANDSHAKE)
    assert server.detach() == received
    driver.settle()
    assert driver.output == b""
    assert driver.verdicts == [Transport.OPEN]
    assert driver.deadline is None
    ending = driver.gone()
    check_ending(ending, phase, Cause.DETACHED, Initiator.LOCAL, age=0.0 if received else None)
    # Not even the end of it is a reason to close the host's transport.
    assert server.transport is Transport.OPEN
    assert server.connection is None


def test_the_host_may_keep_the_endpoint_a_while() -> None:
    server = Server()
    driver = Driver(server)
    driver.feed(REQUEST)
    server.detach()
    driver.settle()
    driver.feed(FRAMES)
    driver.eof()
    driver.error(ConnectionResetError(), Cause.RESET)
    server.close()
    server.abort()
    driver.wait(1000)
    assert (driver.output, driver.verdicts, driver.deadline) == (b"", [Transport.OPEN], None)
    check_ending(driver.gone(), State.HANDSHAKE, Cause.DETACHED, Initiator.LOCAL, age=0.0)
    assert server.transport is Transport.OPEN


def test_a_100_continue_that_has_not_left_is_dropped() -> None:
    server = Server()
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert server.receive_data(data) == []
    assert server.detach() == data
    assert server.data_to_send() == []


def test_detach_after_the_peers_eof() -> None:
    server = Server()
    driver = Driver(server)
    driver.feed(PLAIN)
    driver.eof()
    assert server.detach() == PLAIN
    check_ending(driver.gone(), State.HANDSHAKE, Cause.DETACHED, Initiator.LOCAL, age=0.0)
