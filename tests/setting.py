"""How two endpoints are set up for the state machine, and what they and the network between them may do."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import framebuilder as fb
from actor import LARGEST, LIMITS, Actor
from pair import Pair, counting_bytes
from wsframe import Client, Connection, PermessageDeflate, Role, Server, Timeouts
from wsframe._deflate import DeflateCodec

sides = st.integers(0, 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
datas = texts | st.binary(max_size=50) | st.integers(100, LARGEST).map(lambda size: b"\0ab" * (size // 3))
CODES = [1000, None, 1001, None, 4999, 3000, 1011]
codes = st.sampled_from(CODES)
payloads = st.sampled_from([None, b"", b"x" * 125]) | st.binary(max_size=20)
#: What a wire takes before its sender has to wait; mostly anything.
capacities = st.sampled_from([None, None, None, 0, 1, 100, 2000])
#: s7.4: none of these may be in a Close frame.
wrong_codes = st.sampled_from([0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
_options: dict[str, Any] = {
    "open": st.just(4.0),
    "close": st.sampled_from([5.0, 1.0]),
    "linger": st.sampled_from([2.0, 0.5]),
    "idle": st.sampled_from([None, None, None, 7.0]),
    "write": st.sampled_from([None, 4.0, 4.0]),
}
#: With keepalive, and without.
watchful = st.builds(
    Timeouts,
    ping_interval=st.sampled_from([0.4, 0.4, 3.0]),
    ping_timeout=st.sampled_from([None, 0.4, 0.4, 2.0, 10.0]),
    **_options,
)
patient = st.builds(Timeouts, ping_interval=st.none(), ping_timeout=st.none(), **_options)

#: What nobody may send, some of it more often: as (opcode, payload, rsv, masked the right way).
Poison = tuple[int, bytes, int, bool]
_TOO_BIG = b"x" * (LIMITS.max_message_size + 1)
POISONS: list[Poison] = [
    (fb.TEXT, b"\xff", 0, True),
    (fb.TEXT, b"\xff", 0, True),
    (fb.BINARY, _TOO_BIG, 0, True),
    (fb.BINARY, _TOO_BIG, 0, True),
    (3, b"", 0, True),
    (fb.BINARY, b"\xff\xff", 4, True),
    (fb.TEXT, b"a", 0, False),
    (fb.PING, b"", 1, True),
    (fb.CLOSE, b"\x03", 0, True),
    (fb.CLOSE, fb.close_payload(1005), 0, True),
]


def agreed(deflate: bool) -> tuple[DeflateCodec | None, DeflateCodec | None]:
    """Both ends of the extension, as an opening handshake would have agreed on it: the client's, the server's."""
    if not deflate:
        return None, None
    factory = PermessageDeflate(min_size=20)
    server = factory.accept_offer(factory.offers()[0])
    assert server is not None
    return factory.accept_response(server.params), server


class Setting:
    """How a connection begins."""

    def __init__(self, draw: st.DrawFn) -> None:
        flag = st.booleans()
        self.opening = draw(st.sampled_from([False, False, True]))
        self.deflate = draw(flag)
        self.half_close = draw(flag)
        timeouts = watchful if draw(flag) else patient
        self.timeouts = draw(timeouts), draw(timeouts)
        self.capacities = draw(capacities), draw(capacities)
        self.stream = draw(flag), draw(flag)
        self.lazy = draw(flag), draw(flag)
        self.fin_held = draw(flag)
        self.holds_back = draw(flag)
        self.decode_text = draw(st.sampled_from([True, True, False]))
        #: Steps before anything may go wrong.
        self.calm = draw(st.sampled_from([0, 10, 30, 100]))

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in vars(self).items())

    def pair(self) -> Pair:
        actors = [self._actor(role, index) for index, role in enumerate((Role.CLIENT, Role.SERVER))]
        actors[0].other, actors[1].other = actors[1], actors[0]
        pair = Pair.__new__(Pair)
        pair.join(*actors)
        for actor, capacity in zip(actors, self.capacities, strict=True):
            actor.outgoing.capacity = capacity
        return pair

    def _actor(self, role: Role, index: int) -> Actor:
        options: dict[str, Any] = {
            "limits": LIMITS,
            "timeouts": self.timeouts[index],
            "stream": self.stream[index],
            "decode_text": self.decode_text,
            "random_bytes": counting_bytes(),
        }
        endpoint: Connection | Client | Server
        if not self.opening:
            extension = agreed(self.deflate)[index]
            endpoint = Connection(role, extensions=() if extension is None else (extension,), **options)
        else:
            extensions = (PermessageDeflate(min_size=20),) if self.deflate else ()
            if role is Role.CLIENT:
                endpoint = Client("ws://host/", extensions=extensions, **options)
            else:
                endpoint = Server(extensions=extensions, **options)
        return Actor(
            endpoint,
            self.timeouts[index],
            1000.0,
            half_close=self.half_close,
            lazy=self.lazy[index],
            fin_held=self.fin_held,
            holds_back=self.holds_back,
            decode_text=self.decode_text,
        )


#: How a connection begins.
beginnings = st.composite(Setting)()
