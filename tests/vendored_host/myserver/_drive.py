# mypy: allow-untyped-defs, allow-untyped-calls
"""The loop of docs/integrate.md, word for word, which the tests make sure of."""

import contextlib
import select
import socket
import time

from ._vendor.wsframe import Cause, State, Transport

HIGH_WATER = 64 * 1024


def drive(sock, endpoint, react):
    """Run one connection to its end, give its events to `react`, and return the `Disconnected`."""
    sock.setblocking(False)
    waiting = bytearray()  # what the endpoint has handed out and the kernel has not taken
    paused = shut = at_eof = False
    with sock:
        while True:
            # Output. What is above high water stays with the endpoint, which can still drop it.
            if len(waiting) < HIGH_WATER:
                waiting += b"".join(endpoint.data_to_send())
            try:
                if waiting:
                    del waiting[: sock.send(waiting)]
            except BlockingIOError:
                pass
            except OSError as exc:
                react(endpoint.receive_error(exc, Cause.RESET))
            endpoint.unsent(len(waiting))

            # The transport. `buffered` is what the endpoint has, and what it knows to be with us.
            if endpoint.transport is Transport.ABORT:
                break
            if not endpoint.buffered and endpoint.transport is Transport.CLOSE:
                break
            if not endpoint.buffered and endpoint.transport is Transport.SHUTDOWN_WRITE and not shut:
                shut = True
                with contextlib.suppress(OSError):  # the peer was faster; reading will show it
                    sock.shutdown(socket.SHUT_WR)

            # Flow control: read no more messages while our answers to the last ones are stuck.
            pause = endpoint.state is State.OPEN and endpoint.buffered >= HIGH_WATER
            if pause != paused:
                paused = pause
                endpoint.reading_paused(paused)
                continue

            # Input, and time.
            now = time.monotonic()
            if endpoint.has_more and not paused:
                react(endpoint.receive_data(b"", now))
                continue
            deadline = endpoint.next_timeout(now)
            readable, _, _ = select.select(
                [] if paused or at_eof else [sock],
                [sock] if waiting else [],
                [],
                None if deadline is None else max(0.0, deadline - now),
            )
            now = time.monotonic()
            if readable:
                try:
                    data = sock.recv(65536)
                except BlockingIOError:
                    continue
                except OSError as exc:
                    react(endpoint.receive_error(exc, Cause.RESET))
                    continue
                at_eof = not data
                react(endpoint.receive_data(data, now) if data else endpoint.receive_eof())
            if deadline is not None and now >= deadline:
                react(endpoint.handle_timeout(now))
    react(endpoint.transport_closed())
    return endpoint.ending
