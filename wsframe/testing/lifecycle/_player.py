"""Plays one row against one driver: the peer's acts on a socket, the application's in the driver's process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..framebuilder import close_payload
from ._acts import (
    Act,
    Answer,
    AnswerClose,
    AnswerPings,
    ApplicationAct,
    Await,
    Block,
    BreakTLS,
    CutTLS,
    FailTLS,
    Fin,
    KeepSending,
    NobodyListens,
    Opening,
    Pass,
    Raise,
    ReadAgain,
    Reset,
    SendBytes,
    SendClose,
    SendFrame,
    Stall,
    StopReading,
)
from ._assignment import ACTS, acts_of, answer_of, settings_of
from ._certificates import Certificates
from ._outcome import Outcome, in_order, normal
from ._peer import SMALL_BUFFER, Gone, Peer, TooLate
from ._process import DriverFailed, DriverProcess, Hangs
from ._row import Row

__all__ = ["AGAIN", "Player"]

#: Seconds that anything may take that takes no time on a machine that has some.
DEADLINE = 15.0

#: Seconds that what was sent gets to be read, if it ever is, and then to have its effect.
_ARRIVAL = 0.3
_GLANCE = 0.003
_SETTLE = 0.015

#: What is sent again and again.
AGAIN = "and another thing"


class _Cannot(Exception):
    """The driver finds out in the middle of a row that its library has nothing for it."""


class Player:
    """Plays a row.

    Args:
        row: the row.
        driver: the process of the application under test; its ``told`` is emptied.
        certificates: for TLS.
        patience: seconds to wait, beyond the time at which wsframe's ending must be there, for what a library says.
    """

    def __init__(self, row: Row, driver: DriverProcess, certificates: Certificates, patience: float) -> None:
        self._row = row
        self._driver = driver
        self._certificates = certificates
        self._patience = patience
        self._outcome = Outcome(row.name)
        self._server = row.role.value == "server"
        self._deflate = bool(row.settings.get("compression"))
        self._peer: Peer | None = None
        self._others: list[Peer] = []
        self._listener: socket.socket | None = None
        self._port = 0
        self._answers_pings = False
        self._answered = 0
        self._feeds: list[_Feed] = []
        # When the last act began and ended, and how much time acts have taken that should take none.
        self._began = self._ended = 0.0
        self._taken = 0.0

    def play(self) -> Outcome:
        """Play it and tell what came of it. The driver must be killed where the status is "hangs" or "failed"."""
        outcome = self._outcome
        began = time.monotonic()
        try:
            if self._begin():
                # Deadlines of a client run from when it began to connect.
                self._taken = time.monotonic() - began
                try:
                    self._play_acts()
                except _Cannot as exc:
                    outcome.status, outcome.note = "cannot", str(exc)
                except (TooLate, Gone, OSError) as exc:
                    # The script cannot go on, but what the application was told until now is the answer all the same.
                    outcome.note = str(exc)
                    self._wait_for_the_end()
                self._look()
                answer = self._driver.ask({"end": True}, time.monotonic() + DEADLINE)
                outcome.left, outcome.log = answer.get("left", []), answer.get("log", [])
        except Hangs as exc:
            outcome.status, outcome.note = "hangs", str(exc)
        except (DriverFailed, TooLate, OSError) as exc:
            outcome.status, outcome.note = "failed", str(exc)
        finally:
            for peer in (self._peer, *self._others):
                if peer is not None:
                    peer.close()
            if self._listener is not None:
                self._listener.close()
        self._note_told()
        return outcome

    def _play_acts(self) -> None:
        for position, act in enumerate(self._row.acts):
            before = time.monotonic()
            self._settle(position)
            began = time.monotonic()
            self._do(act)
            self._began, self._ended = began, time.monotonic()
            waits = isinstance(act, (Pass, Stall)) or (isinstance(act, Await) and act.after > 0)
            self._taken += (began if waits else self._ended) - before
        self._wait_for_the_end()

    # Before the acts.

    def _begin(self) -> bool:
        self._driver.told.clear()
        row = self._row
        assignment: dict[str, Any] = {
            "row": row.name,
            "role": row.role.value,
            "acts": acts_of(row),
            "settings": settings_of(row),
            "patience": self._patience / 2,
            **answer_of(row),
        }
        if self._slow:
            assignment["send_buffer"] = SMALL_BUFFER
        if row.tls:
            if self._server:
                assignment["certificate"] = self._certificates.server
            else:
                assignment["authority"] = self._certificates.authority
        if not self._server:
            scheme = "wss" if row.tls else "ws"
            assignment["uri"] = f"{scheme}://127.0.0.1:{self._listen()}/"
        answer = self._driver.ask(assignment, time.monotonic() + DEADLINE)
        if "cannot" in answer:
            self._outcome.status, self._outcome.note = "cannot", answer["cannot"]
            return False
        self._outcome.ignores = answer.get("ignores", [])
        self._began = self._ended = time.monotonic()
        if self._server:
            self._port = answer["port"]
            self._connect()
        elif not any(isinstance(act, NobodyListens) for act in row.acts):
            self._accept()
        return True

    def _listen(self) -> int:
        self._listener = listener = socket.socket()
        if self._slow:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        listener.bind(("127.0.0.1", 0))
        if not any(isinstance(act, NobodyListens) for act in self._row.acts):
            listener.listen()
        self._port = listener.getsockname()[1]
        return self._port

    @property
    def _slow(self) -> bool:
        return any(isinstance(act, StopReading) for act in self._row.acts)

    def _accept(self) -> None:
        assert self._listener is not None
        self._listener.settimeout(DEADLINE)
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            raise TooLate("the client does not connect") from None
        self._listener.setblocking(False)
        self._use(sock, masks=False)

    def _drop_others(self) -> None:
        """A client may try again by itself; it will have no more luck than the first time."""
        if self._listener is not None and self._peer is not None:
            with contextlib.suppress(OSError):
                sock, _ = self._listener.accept()
                other = Peer(sock, masks=False)
                self._others.append(other)
                if any(isinstance(act, Reset) for act in self._row.acts):
                    other.reset()
                else:
                    other.cut()

    def _connect(self) -> None:
        sock = socket.socket()
        if self._slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.settimeout(DEADLINE)
        sock.connect(("127.0.0.1", self._port))
        self._use(sock, masks=True)

    def _use(self, sock: socket.socket, *, masks: bool) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = None
        if self._row.tls:
            distrusts = any(isinstance(act, FailTLS) and act.how == "certificate" for act in self._row.acts)
            context = self._certificates.context(server_side=not masks, distrusted=distrusts)
        self._peer = Peer(sock, masks=masks, context=context)
        self._began = self._ended = time.monotonic()

    @property
    def peer(self) -> Peer:
        """The other end."""
        assert self._peer is not None
        return self._peer

    # Waiting.

    def _pump(self, done: Callable[[], bool], deadline: float) -> bool:
        """Read, listen to the driver and do what goes on beside, until something is so or time is over."""
        while not done():
            now = time.monotonic()
            for feed in self._feeds:
                feed.run(now)
            due = min([deadline, *(feed.next for feed in self._feeds)])
            if now >= deadline:
                return False
            if self._peer is None:
                time.sleep(0.005)
            else:
                self._peer.step(min(due - now, 0.25), self._driver.fileno())
                self._answer_pings()
                self._drop_others()
            self._driver.listen()
        return True

    def _settle(self, position: int) -> None:
        """Let the act before have had its effect."""
        acts = self._row.acts
        if position == 0 or isinstance(acts[position], (Await, AnswerClose, Pass)):
            return
        if isinstance(acts[position - 1], (Answer, Block, Pass, StopReading, NobodyListens)):
            return
        if self._peer is not None:
            deadline = time.monotonic() + _ARRIVAL
            while not self._peer.has_arrived() and time.monotonic() < deadline:
                self._pump(lambda: False, time.monotonic() + _GLANCE)
        self._driver.ask({"sync": True}, time.monotonic() + DEADLINE)
        self._pump(lambda: False, time.monotonic() + _SETTLE)
        self._driver.ask({"sync": True}, time.monotonic() + DEADLINE)

    def _answer_pings(self) -> None:
        pings = [frame for frame in self.peer.frames if frame.opcode == 9]
        for ping in pings[self._answered :] if self._answers_pings else ():
            self.peer.send(self.peer.frame(10, ping.payload), time.monotonic() + DEADLINE)
            self._answered += 1

    def _await(self, what: str, seconds: float = 0.0) -> None:
        seen = self.peer.has_seen(what)
        deadline = time.monotonic() + seconds + min(self._patience, DEADLINE)
        found = self._pump(lambda: seen() or self.peer.end is not None, deadline)
        if seen():
            return
        raise Gone(f"no {what}, but the end of the stream") if found else TooLate(f"no {what}")

    # The acts.

    def _do(self, act: Act) -> None:
        if isinstance(act, ApplicationAct):
            self._do_application(act)
            return
        deadline = time.monotonic() + DEADLINE
        if self._peer is None:
            # Nobody listens.
            return
        peer = self._peer
        match act:
            case Opening():
                self._open(act)
            case Pass():
                self._pump(lambda: False, time.monotonic() + act.seconds)
            case SendBytes() | SendFrame() | SendClose():
                self._secure()
                peer.send(self._bytes_of(act), deadline)
            case AnswerClose():
                self._await("Close")
                assert peer.close_frame is not None
                peer.send(peer.frame(8, peer.close_frame.payload[:2]), deadline)
            case Await():
                self._secure()
                before = self._began, self._ended
                self._await(act.what, act.by)
                now = time.monotonic()
                self._outcome.waits.append((now - before[0] + self._taken, now - before[1]))
            case KeepSending():
                self._secure()
                self._feeds.append(_Feed(peer, act))
            case AnswerPings():
                self._answers_pings = True
            case Fin():
                if peer.secured:
                    peer.finish(deadline)
                else:
                    peer.cut()
            case CutTLS():
                peer.cut()
            case BreakTLS():
                self._secure()
                peer.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32), deadline)
            case FailTLS():
                self._fail_tls(act)
            case Reset():
                peer.reset()
            case StopReading():
                peer.stop_reading()
            case ReadAgain():
                peer.read_again()
            case _:
                raise TypeError(f"no script on a socket can do {act!r}")

    def _secure(self) -> None:
        """The TLS handshake takes place when the first byte inside TLS is wanted."""
        if not self.peer.secured:
            self.peer.handshake_tls(time.monotonic() + DEADLINE)

    def _open(self, act: Opening) -> None:
        self._secure()
        peer, deadline = self.peer, time.monotonic() + DEADLINE
        together = b"".join(self._bytes_of(piece) for piece in act.together)
        if self._server:
            peer.send(peer.request(self._port, deflate=self._deflate) + together, deadline)
            self._await("response")
            if peer.status != 101:
                raise Gone(f"the opening handshake was refused with {peer.status}")
        else:
            self._await("request")
            peer.send(peer.response(deflate=self._deflate) + together, deadline)
        if not self._pump(lambda: any(line["told"] == "open" for line in self._driver.told), deadline):
            raise TooLate("the application was not told that it is open")

    def _bytes_of(self, act: SendBytes | SendFrame | SendClose) -> bytes:
        if isinstance(act, SendBytes):
            return self.peer.fill(act.data)
        if isinstance(act, SendClose):
            return self.peer.frame(8, close_payload(act.code, act.reason))
        return self.peer.frame(**{name.name: getattr(act, name.name) for name in fields(act)})

    def _fail_tls(self, act: FailTLS) -> None:
        if act.how == "garbage":
            self.peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n", time.monotonic() + DEADLINE)
            return
        try:
            self._secure()
            # With TLS 1.3 a client's refusal comes after the server's handshake is done.
            self._await("EOF")
        except (ssl.SSLError, Gone, TooLate):
            # As it should be, whichever side it was that found out.
            pass

    def _do_application(self, act: ApplicationAct) -> None:
        if isinstance(act, Stall):
            self._stall(act)
            return
        if isinstance(act, (Answer, Block)) or (isinstance(act, Raise) and not self._row.opens):
            # It has known that from the beginning.
            return
        name = ACTS[type(act)]
        # Applications always wait for room as they should: not to is only possible without an adapter.
        arguments = {
            slot.name: getattr(act, slot.name)
            for slot in fields(act)  # type: ignore[arg-type]
            if slot.name != "waits"
        }
        self._driver.send({"act": name, **arguments})
        answers: list[dict[str, Any]] = []

        def answered() -> bool:
            answer = self._driver.answer()
            if answer is not None:
                answers.append(answer)
            return bool(answers)

        if not self._pump(answered, time.monotonic() + DEADLINE):
            raise Hangs(f"{name} does not return to the driver")
        if "cannot" in answers[0]:
            raise _Cannot(answers[0]["cannot"])

    def _stall(self, act: Stall) -> None:
        os.kill(self._driver.pid, signal.SIGSTOP)
        try:
            for piece in act.meanwhile:
                self.peer.send(self._bytes_of(piece), time.monotonic() + DEADLINE)
            self._pump(lambda: False, time.monotonic() + act.seconds)
        finally:
            os.kill(self._driver.pid, signal.SIGCONT)

    # After the acts.

    def _is_over(self) -> bool:
        return any(line.get("over") for line in self._driver.told)

    def _wait_for_the_end(self) -> None:
        row = self._row
        deadline = self._ended + row.by + self._patience

        def done() -> bool:
            peer = self._peer
            if peer is not None and peer.end == "FIN" and time.monotonic() > self._ended + row.by:
                # Nobody keeps his half of a connection for ever that the other one has ended.
                peer.cut()
            return self._is_over() and (
                peer is None
                or peer.closed
                or peer.end is not None
                or not peer.wants_to_read
                or row.tcp == "kept"
            )

        self._pump(done, deadline)

    def _look(self) -> None:
        outcome = self._outcome
        outcome.taken = self._taken
        for line in self._driver.told:
            if line.get("over"):
                outcome.over = True
                outcome.early, outcome.late = line["at"] - self._began + self._taken, line["at"] - self._ended
                outcome.ending = line.get("ending")
                break
        if self._peer is not None:
            outcome.wire, outcome.tcp = self._peer.wire(), self._peer.end

    def _note_told(self) -> None:
        lines = in_order(self._driver.told)
        self._outcome.told = [
            normal(f"{line['by']}: {line['told']}" if line.get("by") else line["told"]) for line in lines
        ]
        self._outcome.brief = [normal(line.get("brief", line["told"])) for line in lines]


class _Feed:
    """What the peer sends again and again, beside the rest."""

    def __init__(self, peer: Peer, act: KeepSending) -> None:
        self._peer = peer
        self._act = act
        self._head = b"GET / HTTP/1.1\r\nX: " if peer.masks else b"HTTP/1.1 101 Switching Protocols\r\nX: "
        self.next = time.monotonic()

    def run(self, now: float) -> None:
        if now < self.next:
            return
        self.next = now + self._act.every
        if self._peer.closed or self._peer.end is not None:
            return
        what = self._act.what
        if what == "head":
            data, self._head = self._head[:1] or b"x", self._head[1:]
        else:
            data = self._peer.frame(1 if what == "messages" else 9, AGAIN.encode())
        self._peer.send(data, now)
