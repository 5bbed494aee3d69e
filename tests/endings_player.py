"""Plays rows of the endings table against the core: a scripted peer, wires and a virtual clock.

The peer's frames are made and read without the code under test. The adapter in between does what adapters do: above
the high-water mark output stays with the endpoint, and nothing is written before TLS is there.
"""

from __future__ import annotations

import functools
import itertools
import ssl
import struct
from collections.abc import Callable
from typing import Any

import framebuilder as fb
from pair import Side, counting_bytes
from wsframe import (
    Cause,
    Client,
    Connection,
    Disconnected,
    Limits,
    Message,
    RequestReceived,
    Role,
    Server,
    SlowPeerError,
    Transport,
)
from wsframe._adapter._settings import settings_for
from wsframe.testing import lifecycle as t
from wsframe.testing.lifecycle import Act, Row

#: What the systems between two sides hold while one of them does not read.
CAPACITY = 150_000
#: How long a peer waits for something at the most, in virtual seconds.
PATIENCE = 60.0
EPSILON = 1e-6
#: What a peer keeps sending.
TICK = "tick"

REQUEST = fb.client_handshake_request(host="localhost")

_NAMES = {fb.TEXT: "Text", fb.BINARY: "Binary", fb.PING: "Ping", fb.PONG: "Pong"}


class AdapterSide(Side):
    """An adapter with a high-water mark, over a transport that may still have to be connected or secured."""

    endpoint: Server | Client  # type: ignore[assignment]

    def __init__(
        self, endpoint: Server | Client, high_water: int, *, ready: bool, half_close: bool, noise: bool
    ) -> None:
        super().__init__(endpoint, half_close=half_close)  # type: ignore[arg-type]
        self.ready = ready
        self.noise = noise
        self.now = 0.0
        self.on_events: Callable[[], None] = lambda: None
        self.lost = False
        self._high_water = high_water

    def may_take_output(self) -> bool:
        return len(self.buffer) <= self._high_water

    def work(self, now: float) -> None:
        self.now = now
        if self.ready or self.gone:
            super().work(now)
        elif self.endpoint.transport is Transport.OPEN:
            self.endpoint.next_timeout(now)
        else:
            # Nothing can be said yet, so there is only one way to end it.
            self.outgoing.rst = True
            self._lose()

    def read_on(self, now: float) -> None:
        # An application may answer at once, before the adapter looks for more.
        self.on_events()
        super().read_on(now)

    def _lose(self) -> None:
        if self.noise:
            # The first terminal fact has decided; whatever comes between it and the end of the transport is too late.
            self.endpoint.next_timeout(self.now)
            self.events += self.endpoint.receive_data(REQUEST + b"\xff" * 20, 1e6)
            self.events += self.endpoint.receive_eof()
            self.events += self.endpoint.receive_error(OSError("too late"), Cause.TRANSPORT_ERROR)
            self.events += self.endpoint.handle_timeout(1e6)
            self.endpoint.close(4999, "too late")
            self.endpoint.abort()
        super()._lose()

    def fail(self, exc: OSError, cause: Cause) -> None:
        """The transport fails."""
        if not self.gone:
            self.lost = True
            self.events += self.endpoint.receive_error(exc, cause)
            self._lose()

    def lose(self) -> None:
        """The transport is gone, and nobody says why."""
        if not self.gone:
            self.lost = True
            # This may decide it, and comes last.
            self.noise = False
            self._lose()

    def on_deadline(self, now: float) -> None:
        self.events += self.endpoint.handle_timeout(now)
        self.work(now)


class Player:
    """One row, once.

    Args:
        row: what to play.
        chunk: at the most so many bytes arrive at a time; None for all that are there.
        joined: what the peer sends in acts that follow each other, its half of the opening handshake too, arrives
            together.
        noise: much else happens after the ending was decided, and before the transport is gone.
    """

    def __init__(
        self, row: Row, *, chunk: int | None = None, joined: bool = False, noise: bool = False
    ) -> None:
        self.row = row
        self.now = self.last_act_at = 1000.0
        self.ended_at: float | None = None
        self._chunk = chunk
        self._joined = joined
        options: Any = {"ping_interval": None, **row.settings}
        settings = settings_for(row.role, options)
        arguments: dict[str, Any] = {
            "limits": settings.limits,
            "timeouts": settings.timeouts,
            "extensions": settings.extensions,
            "random_bytes": counting_bytes(),
        }
        endpoint: Server | Client
        if row.role is Role.SERVER:
            endpoint = Server(**arguments)
        else:
            endpoint = Client("ws://localhost/", **arguments)
        self._deflate = bool(settings.extensions)
        self.side = AdapterSide(
            endpoint,
            settings.limits.write_high_water,
            ready=not row.tls and not isinstance(row.acts[0], (t.NobodyListens, t.NetworkError)),
            half_close=not row.tls,
            noise=noise,
        )
        self.side.on_events = self._run_application
        # What the peer has read, and whether it reads.
        self._read = b""
        self._reads = True
        self._fin_seen = False
        self._answers_pings = False
        self._pings_answered = 0
        self._ticks: list[tuple[Callable[[int], float], Callable[[int], bytes], int]] = []
        self._on_request: Act | None = None
        self._settle()

    # The result.

    def play(self) -> Disconnected:
        """Do all acts, wait for the ending, and return it."""
        for act, following in itertools.zip_longest(self.row.acts, self.row.acts[1:]):
            self.last_act_at = self.now
            play = getattr(self, "_" + type(act).__name__.lower())
            play(act)
            if not (self._joined and isinstance(act, _SENDING) and isinstance(following, _SENDING)):
                self._settle()
        self._pass_until(self.now + self.row.by + EPSILON, self._gone)
        if not self.side.gone:
            raise AssertionError(f"no ending {self.now - self.last_act_at:g} s after the last act")
        return self.side.ending

    @property
    def waited(self) -> float:
        """Seconds from the last act to the ending."""
        assert self.ended_at is not None
        return self.ended_at - self.last_act_at

    @property
    def wire(self) -> tuple[str, ...]:
        """What our side has sent after its half of the opening handshake, in the table's words."""
        # Also what a peer that does not read would find.
        self._reads = True
        self._take_output()
        words = [_word(item) for item in self._items() if item[0] not in ("request", "HTTP 101")]
        return tuple(word for word, _ in itertools.groupby(words))

    @property
    def delivered(self) -> tuple[object, ...]:
        """The messages that the application got, without those of which nobody can say how many there are."""
        messages = [event.data for event in self.side.events if isinstance(event, Message)]
        return tuple(data for data in messages if data != TICK)

    @property
    def tcp(self) -> str:
        """How our side has ended TCP."""
        verdict = self.side.endpoint.transport
        if verdict is Transport.OPEN:
            return "kept"
        if self.side.lost:
            return "lost"
        return "dropped" if self.side.outgoing.rst else "FIN"

    # Time, and bytes on their way.

    def _gone(self) -> bool:
        return self.side.gone

    def _settle(self) -> None:
        """Let everything arrive that is on its way."""
        for _ in range(1_000_000):
            self.side.work(self.now)
            arrived = self.side.ready and self.side.receive(self.now, self._chunk)
            self._take_output()
            if self._answers_pings:
                self._answer_pings()
            if self.side.gone and self.ended_at is None:
                self.ended_at = self.now
            if not arrived and not self.side.incoming.data:
                return
            if not self.side.ready or self.side.gone:
                self.side.incoming.data.clear()
        raise AssertionError("it never comes to rest")

    def _run_application(self) -> None:
        """Answer a request that has come."""
        endpoint = self.side.endpoint
        if not isinstance(endpoint, Server) or endpoint.request is None:
            return
        for event in self.side.events:
            if isinstance(event, RequestReceived):
                break
        else:
            return
        self.side.events.remove(event)
        answer = self._on_request
        if isinstance(answer, t.Block):
            return
        if isinstance(answer, t.Answer):
            if event.is_websocket:
                endpoint.reject(answer.status)
            else:
                endpoint.respond(answer.status, body=answer.body)
        elif isinstance(answer, t.Raise):
            endpoint.reject(500)
        elif event.is_websocket:
            self.side.events += endpoint.accept()
        elif not any(isinstance(act, t.Detach) for act in self.row.acts):
            endpoint.respond_upgrade_required()
        self.side.work(self.now)

    def _take_output(self) -> None:
        if self._reads:
            self._read += bytes(self.side.outgoing.data)
            self.side.outgoing.data.clear()
            self._fin_seen = self.side.outgoing.fin

    def _pass_until(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, with every deadline met and everything arriving at once."""
        for _ in range(100_000):
            if stop():
                return
            deadline = None if self.side.gone else self.side.endpoint.next_timeout(self.now)
            tick = min((when(n) for when, _, n in self._ticks), default=None)
            if self.side.gone:
                tick = None
            following = min((at for at in (deadline, tick) if at is not None), default=None)
            if following is None or following > until:
                self.now = until
                return
            self.now = max(self.now, following)
            if tick is not None and tick <= self.now:
                self._tick()
            else:
                self.side.on_deadline(self.now)
            self._settle()
        raise AssertionError("deadlines that never end")

    def _tick(self) -> None:
        for index, (when, make, n) in enumerate(self._ticks):
            if when(n) <= self.now:
                self._ticks[index] = when, make, n + 1
                self._send(make(n))

    def _items(self) -> list[tuple[str, Any]]:
        return _parse(self._read, self.row.role)

    def _send(self, data: bytes) -> None:
        self.side.incoming.data += data

    # Acts of the peer.

    def _opening(self, act: t.Opening) -> None:
        together = b"".join(map(self._bytes_of, act.together))
        self.side.ready = True
        if self.row.role is Role.SERVER:
            headers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if self._deflate else []
            self._send(fb.client_handshake_request(host="localhost", headers=headers) + together)
        else:
            self._await(t.Await("request"))
            extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if self._deflate else ""
            head = (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"{extension}Sec-WebSocket-Accept: {{accept}}\r\n\r\n"
            )
            self._send(self._filled(head.encode()) + together)

    def _filled(self, data: bytes) -> bytes:
        if b"{accept}" not in data:
            return data
        endpoint = self.side.endpoint
        assert isinstance(endpoint, Client)
        key = endpoint.request.headers["Sec-WebSocket-Key"]
        return data.replace(b"{accept}", fb.accept_for(key).encode())

    def _bytes_of(self, act: Act) -> bytes:
        if isinstance(act, t.SendBytes):
            return self._filled(act.data)
        if isinstance(act, t.SendClose):
            return self._frame_bytes(t.SendFrame(fb.CLOSE, fb.close_payload(act.code, act.reason)))
        assert isinstance(act, t.SendFrame)
        return self._frame_bytes(act)

    def _frame_bytes(self, act: t.SendFrame) -> bytes:
        masked = (self.row.role is Role.SERVER) != act.wrong_mask
        data = fb.build(
            act.opcode,
            act.payload,
            fin=act.fin,
            rsv=act.rsv,
            mask=fb.SAMPLE_MASK if masked else None,
            length_form=act.length_form,
        )
        return data if act.cut is None else data[: act.cut]

    def _sendbytes(self, act: t.SendBytes | t.SendFrame | t.SendClose) -> None:
        self.side.ready = True
        # A client's request is out by then.
        self.side.work(self.now)
        self._send(self._bytes_of(act))

    _sendframe = _sendclose = _sendbytes

    def _sendearly(self, act: t.SendEarly) -> None:
        self.side.ready = True
        self.side.events += self.side.endpoint.receive_data(self._filled(act.data), self.now)
        if act.fin:
            self.side.events += self.side.endpoint.receive_eof()

    def _answerclose(self, act: t.AnswerClose) -> None:
        self._await(t.Await("Close", 0.0, PATIENCE))
        code = next(what for kind, what in self._items() if kind == "Close")
        self._send(self._bytes_of(t.SendClose(code)))

    def _answerpings(self, act: t.AnswerPings) -> None:
        self._answers_pings = True

    def _answer_pings(self) -> None:
        pings = [what for kind, what in self._items() if kind == "Ping"]
        for payload in pings[self._pings_answered :]:
            self._send(self._frame_bytes(t.SendFrame(fb.PONG, payload)))
        self._pings_answered = len(pings)

    def _fin(self, act: t.Fin) -> None:
        if self.side.ready:
            self.side.incoming.fin = True
        else:
            # Inside TLS, before it is there.
            self.side.events += self.side.endpoint.receive_eof()

    def _reset(self, act: t.Reset) -> None:
        self.side.fail(ConnectionResetError("reset by peer"), Cause.RESET)

    def _cuttls(self, act: Act) -> None:
        self.side.fail(ssl.SSLError(1, "unexpected eof"), Cause.TLS_ERROR)

    _breaktls = _failtls = _cuttls

    def _nobodylistens(self, act: t.NobodyListens) -> None:
        self.side.fail(ConnectionRefusedError("refused"), Cause.TRANSPORT_ERROR)

    def _networkerror(self, act: t.NetworkError) -> None:
        self.side.fail(OSError("no route to host"), Cause.TRANSPORT_ERROR)

    def _losetransport(self, act: t.LoseTransport) -> None:
        self.side.lose()

    def _stopreading(self, act: t.StopReading) -> None:
        self._reads = False
        self.side.outgoing.capacity = CAPACITY

    def _readagain(self, act: t.ReadAgain) -> None:
        self._reads = True
        self.side.outgoing.capacity = None

    def _keepsending(self, act: t.KeepSending) -> None:
        start = self.now
        server = self.row.role is Role.SERVER
        head = b"GET / HTTP/1.1\r\nX: " if server else b"HTTP/1.1 101 Switching Protocols\r\nX: "
        make = {
            "messages": lambda _: self._frame_bytes(t.SendFrame(fb.TEXT, TICK.encode())),
            "pings": lambda _: self._frame_bytes(t.SendFrame(fb.PING, b"tick")),
            "head": lambda n: head if n == 1 else b"x",
        }[act.what]
        self._ticks.append((lambda n: start + n * act.every, make, 1))

    def _await(self, act: t.Await) -> None:
        self.side.ready = True
        start = self.now
        self._settle()
        self._pass_until(start + PATIENCE, functools.partial(self._has_seen, act.what))
        if not self._has_seen(act.what):
            raise AssertionError(f"the peer never sees {act.what}, but {self._items()}")
        waited = self.now - start
        if not act.after - EPSILON <= waited <= act.by + EPSILON:
            raise AssertionError(
                f"the peer sees {act.what} after {waited:g} s, not {act.after:g} to {act.by:g} s"
            )
        self.last_act_at = self.now

    def _has_seen(self, what: str) -> bool:
        if what == "EOF":
            return self._fin_seen
        if what == "message":
            return any(kind in ("Text", "Binary") for kind, _ in self._items())
        if what == "response":
            return any(kind.startswith("HTTP") for kind, _ in self._items())
        return any(kind == what for kind, _ in self._items())

    # Acts of the application, or of nobody.

    def _pass(self, act: t.Pass) -> None:
        self._pass_until(self.now + act.seconds)
        self.last_act_at = self.now

    def _stall(self, act: t.Stall) -> None:
        self.now += act.seconds
        self.last_act_at = self.now
        for sent in act.meanwhile:
            self._send(self._bytes_of(sent))
        # The worst that an adapter can do: the deadlines first.
        self.side.on_deadline(self.now)

    def _answer(self, act: t.Answer | t.Block) -> None:
        self._on_request = act

    _block = _answer

    def _raise(self, act: t.Raise) -> None:
        if self.row.opens:
            self._close_with(1011)
        else:
            self._on_request = act

    def _return(self, act: t.Return) -> None:
        self._close_with(1000)

    def _cancel(self, act: t.Cancel) -> None:
        self._close_with(1001)

    def _shutdown(self, act: t.Shutdown) -> None:
        self._close_with(act.code, act.reason)

    def _callclose(self, act: t.CallClose) -> None:
        self._close_with(act.code, act.reason)

    def _close_with(self, code: int | None, reason: str = "") -> None:
        self.side.endpoint.close(code, reason)

    def _callabort(self, act: t.CallAbort) -> None:
        self.side.endpoint.abort()

    def _detach(self, act: t.Detach) -> None:
        endpoint = self.side.endpoint
        assert isinstance(endpoint, Server)
        received = endpoint.detach()
        sent = b"".join(self._bytes_of(before) for before in self.row.acts if isinstance(before, t.SendBytes))
        assert received == sent, "a host gets all bytes"
        self.side.lose()

    def _callsend(self, act: t.CallSend) -> None:
        connection = self.side.endpoint.connection
        assert isinstance(connection, Connection)
        data = bytes(act.size)
        if act.count is not None:
            for _ in range(act.count):
                connection.send_bytes(data)
            return
        for _ in range(Limits().write_hard_cap):
            waits = not self.side.may_take_output()
            try:
                connection.send_bytes(data)
            except SlowPeerError:
                assert not act.waits
                return
            self.side.work(self.now)
            if waits and act.waits:
                return
        raise AssertionError("everything goes out")


_SENDING = (t.Opening, t.SendBytes, t.SendFrame, t.SendClose, t.Fin)


def _word(item: tuple[str, Any]) -> str:
    kind, what = item
    if kind == "Close":
        return "Close" if what is None else f"Close {what}"
    return kind


def _parse(data: bytes, role: Role) -> list[tuple[str, Any]]:
    """What our side has sent, as far as it is complete: ("HTTP 101", ...), ("Close", code), ("Ping", payload), ..."""
    items: list[tuple[str, Any]] = []
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return items
    first = head.split(b"\r\n")[0].decode()
    if role is Role.CLIENT:
        items.append(("request", first))
    else:
        items.append((f"HTTP {first.split()[1]}", first))
        if first.split()[1] != "101":
            return items
    while True:
        frame = _next_frame(rest)
        if frame is None:
            return items
        (parsed,) = fb.parse_all(rest[:frame])
        rest = rest[frame:]
        assert parsed.masked == (role is Role.CLIENT)
        if parsed.opcode == fb.CLOSE:
            items.append(("Close", struct.unpack("!H", parsed.payload[:2])[0] if parsed.payload else None))
        else:
            items.append((_NAMES[parsed.opcode], parsed.payload))


def _next_frame(data: bytes) -> int | None:
    """How long the first frame is, if it is all there."""
    if len(data) < 2:
        return None
    length, start = data[1] & 0x7F, 2
    for mark, form in ((126, "!H"), (127, "!Q")):
        if length == mark:
            size = struct.calcsize(form)
            if len(data) < 2 + size:
                return None
            (length,), start = struct.unpack(form, data[2 : 2 + size]), 2 + size
            break
    total: int = start + (4 if data[1] & 0x80 else 0) + length
    return total if len(data) >= total else None
