"""``broadcast``: one message to many WebSockets, none of which holds up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from .._adapter._broadcast import (
    BROADCAST_TIMEOUT,
    BroadcastResult,
    Fate,
    Policy,
    check_policy,
    needs_its_own,
    offer,
    prepare,
    result_of,
    without,
)
from .._adapter._exceptions import ConnectionClosed
from .._adapter._websocket import BytesLike
from .._enums import State
from .._frames import PreparedMessage
from ._threads import check_thread
from ._websocket import WebSocket

__all__ = ["Broadcast", "broadcast"]

#: What waits for slow peers, so that somebody holds on to it.
_waiting: set[asyncio.Task[None]] = set()


def broadcast(
    websockets: Iterable[WebSocket],
    message: str | BytesLike | PreparedMessage,
    *,
    policy: Policy = "wait",
    exclude: WebSocket | Iterable[WebSocket] = (),
    timeout: float = BROADCAST_TIMEOUT,
) -> Broadcast:
    """Send one message to many, framing it once for all that can share it.

    These are the connections of servers that have not agreed on compression. A `PreparedMessage` is shared by all
    connections of servers, and not compressed.

    When this returns, it is queued for all but those that are slow: more than the high-water mark waits to be written
    to them already. What becomes of these, the policy says; nobody else waits for them.

    - ``"wait"``: they get it when there is room. Who has made none after ``timeout`` seconds is disconnected.
    - ``"drop"``: they do not get it.
    - ``"disconnect"``: what waits for them is dropped, and they lose their connection with 1013 (SLOW_PEER).

    Who is being sent a message in pieces gets this one behind that, as with ``send_nowait``, and it is delivered;
    with ``"drop"`` it is dropped. When no more is kept, ``"wait"`` drops it as well, and ``"disconnect"`` disconnects.

    Args:
        websockets: to whom. Those that are closing or have ended are left out.
        message: as for ``send``.
        policy: what to do about those that are slow.
        exclude: one that does not get it, or several.
        timeout: seconds, for the policy ``"wait"``.

    Returns:
        what can be awaited until nobody is waited for any more, and gives a `BroadcastResult`. That is not necessary:
        it goes on anyway.

    Raises:
        TypeError: the message is of another type.
        ValueError: there is no such policy.
        LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
    """
    check_policy(policy)
    return Broadcast(without(websockets, exclude), prepare(message), message, policy, timeout)


class Broadcast:
    """A message on its way to many; made by `broadcast`. Awaited, it gives a `BroadcastResult`."""

    __slots__ = ("_counts", "_tasks")

    def __init__(
        self,
        targets: Sequence[WebSocket],
        prepared: PreparedMessage,
        message: object,
        policy: Policy,
        timeout: float,
    ) -> None:
        self._counts = dict.fromkeys(Fate, 0)
        self._tasks: list[asyncio.Task[None]] = []
        frame = prepared.frame
        # Those who cannot share it; but what was prepared by the caller is to go as it is, as far as that is possible.
        alone = prepared if message is prepared else prepared.data
        delivered = 0
        for ws in targets:
            lane = ws._lane
            if lane is not None and lane.send_framed(frame):
                delivered += 1
            elif ws.state is State.OPEN:
                self._send_with_care(
                    ws, alone if needs_its_own(ws._connection) else prepared, policy, timeout
                )
        self._counts[Fate.DELIVERED] += delivered

    @property
    def waiting(self) -> int:
        """For how many it waits still."""
        return sum(not task.done() for task in self._tasks)

    @property
    def result(self) -> BroadcastResult:
        """What has come of it so far."""
        return result_of(self._counts)

    def __await__(self) -> Generator[Any, None, BroadcastResult]:
        return self._settled().__await__()

    async def _settled(self) -> BroadcastResult:
        if self.waiting:
            # Whoever is cancelled here does not take it from the others.
            await asyncio.wait(self._tasks)
        return self.result

    def _send_with_care(
        self, ws: WebSocket, message: str | bytes | PreparedMessage, policy: Policy, timeout: float
    ) -> None:
        """Send it to one that the express lane is not for."""
        check_thread(ws._loop, "broadcast")
        fate = offer(ws, message, policy, others_wait=ws._in_line > 1, is_slow=lambda: ws.is_slow)
        if fate is not None:
            self._counts[fate] += 1
            return
        task = asyncio.get_running_loop().create_task(self._wait_for(ws, message, timeout))
        self._tasks.append(task)
        _waiting.add(task)
        task.add_done_callback(_waiting.discard)

    async def _wait_for(self, ws: WebSocket, message: str | bytes | PreparedMessage, timeout: float) -> None:
        fate = await _sent_in_time(ws, message, timeout)
        self._counts[fate] += 1


async def _sent_in_time(ws: WebSocket, message: str | bytes | PreparedMessage, timeout: float) -> Fate:
    """Send it when there is room, or give up on who makes none."""
    try:
        async with asyncio.timeout(timeout):
            await ws.send(message)
    except TimeoutError:
        if ws.is_within_message or ws.state is not State.OPEN:
            return Fate.DROPPED
        ws.disconnect_slow()
        return Fate.DISCONNECTED
    except ConnectionClosed:
        return Fate.DROPPED
    return Fate.DELIVERED
