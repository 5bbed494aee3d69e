"""``broadcast``: one message to many WebSockets, none of which holds up the others."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from time import monotonic

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
from .._adapter._websocket import BytesLike
from .._enums import State
from .._frames import PreparedMessage
from ._backlog import Waiting
from ._websocket import WebSocket

__all__ = ["Broadcast", "broadcast"]


def broadcast(
    websockets: Iterable[WebSocket],
    message: str | BytesLike | PreparedMessage,
    *,
    policy: Policy = "wait",
    exclude: WebSocket | Iterable[WebSocket] = (),
    timeout: float = BROADCAST_TIMEOUT,
) -> Broadcast:
    """Send one message to many, framing it once for all that can share it. Any thread may call it.

    These are the connections of servers that have not agreed on compression. A `PreparedMessage` is shared by all
    connections of servers, and not compressed.

    When this returns, it is queued for all but those that are slow: more than the high-water mark waits to be written
    to them already. What becomes of these, the policy says; nobody else waits for them.

    - ``"wait"``: they get it when there is room. Who has made none after ``timeout`` seconds is disconnected, and so is
      for whom about ``Limits.write_hard_cap`` bytes wait like this already.
    - ``"drop"``: they do not get it.
    - ``"disconnect"``: what waits for them is dropped, and they lose their connection with 1013 (SLOW_PEER).

    It gives the system what that takes at once, and waits for no connection. What is left is written by whoever waits
    in the connection's methods, and on a server otherwise by the thread in ``serve_forever``.

    Args:
        websockets: to whom. Those that are closing or have ended are left out.
        message: as for ``send``.
        policy: what to do about those that are slow.
        exclude: one that does not get it, or several.
        timeout: seconds, for the policy ``"wait"``.

    Returns:
        what has come of it so far, and ``wait`` until nobody is waited for any more. That is not necessary: on a server
        it goes on anyway.

    Raises:
        TypeError: the message is of another type.
        ValueError: there is no such policy.
        LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
    """
    check_policy(policy)
    return Broadcast(without(websockets, exclude), prepare(message), message, policy, timeout)


class Broadcast:
    """A message on its way to many; made by `broadcast`."""

    def __init__(
        self,
        targets: Sequence[WebSocket],
        prepared: PreparedMessage,
        message: object,
        policy: Policy,
        timeout: float,
    ) -> None:
        # Those who settle it are threads of different connections. No other lock is taken while it is held.
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(Fate, 0)
        self._waiting: list[tuple[WebSocket, Waiting]] = []
        self._prepared = prepared
        # For those who cannot share it; but what was prepared by the caller is to go as it is, if that is possible.
        self._alone = prepared if message is prepared else prepared.data
        self._deadline = monotonic() + timeout
        for websocket in targets:
            with websocket._driver.lock:
                self._send(websocket, policy)

    @property
    def waiting(self) -> int:
        """For how many it waits still."""
        return sum(entry.fate is None for _, entry in self._waiting)

    @property
    def result(self) -> BroadcastResult:
        """What has come of it so far."""
        with self._lock:
            counts = self._counts.copy()
        return result_of(counts)

    def wait(self, timeout: float | None = None) -> BroadcastResult:
        """Wait until nobody is waited for any more.

        That is no longer than ``broadcast`` was told to. The connections are driven meanwhile, one after the other, as
        in any method that waits.

        Args:
            timeout: seconds for this call.

        Raises:
            TimeoutError: some are still waited for. It goes on.
        """
        deadline = None if timeout is None else monotonic() + timeout
        for websocket, entry in self._waiting:
            driver = websocket._driver
            with driver.lock:
                driver.wait(lambda entry=entry: entry.fate, deadline)  # type: ignore[misc]
            if entry.fate is None:
                raise TimeoutError(f"slow peers are still waited for after {timeout:g} s")
        return self.result

    def _settle(self, fate: Fate) -> None:
        with self._lock:
            self._counts[fate] += 1

    def _send(self, websocket: WebSocket, policy: Policy) -> None:
        """Send it to one, whose lock is held."""
        if websocket.state is not State.OPEN:
            return
        message = self._alone if needs_its_own(websocket._connection) else self._prepared
        fate = offer(
            websocket,
            message,
            policy,
            # They are in the backlog, where this one follows them.
            others_wait=False,
            is_slow=websocket.look_whether_slow,
        )
        if fate is None:
            entry = websocket.put_behind(message, len(self._prepared.frame), self._deadline, self._settle)
            if entry is not None:
                self._waiting.append((websocket, entry))
                return
            websocket.disconnect_slow()
            fate = Fate.DISCONNECTED
        self._settle(fate)
