"""permessage-deflate (RFC 7692 s7): settings, negotiation, and the codec against zlib itself as the other side."""

from __future__ import annotations

import itertools
import json
import os
import random
import tracemalloc
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wsframe import HandshakeError, PermessageDeflate, _deflate
from wsframe._backend import CodecError
from wsframe._deflate import DeflateCodec
from wsframe._extension import (
    ExtensionFactory,
    ExtensionItem,
    PerMessageExtension,
    check_extensions,
    format_extensions,
    negotiate_extensions,
    offer_extensions,
    parse_extensions,
)

PMD = "permessage-deflate"
SNC = "server_no_context_takeover"
CNC = "client_no_context_takeover"
SMW = "server_max_window_bits"
CMW = "client_max_window_bits"
TAIL = b"\x00\x00\xff\xff"
NO_LIMIT = 1 << 40


def codec(**changes: Any) -> DeflateCodec:
    arguments: dict[str, Any] = {
        "params": (),
        "send_bits": 15,
        "send_takeover": True,
        "receive_bits": 15,
        "receive_takeover": True,
        "level": 6,
        "mem_level": 8,
        "min_size": 0,
    }
    return DeflateCodec(**(arguments | changes))


def decode(receiver: DeflateCodec, payload: bytes, limit: int = NO_LIMIT) -> bytes:
    return receiver.decode(payload, final=True, limit=limit)


def encode(sender: DeflateCodec, data: bytes) -> bytes:
    return sender.encode(data, first=True, final=True)


def decode_pieces(receiver: DeflateCodec, pieces: Sequence[bytes], limit: int = NO_LIMIT) -> bytes:
    whole = b""
    for number, piece in enumerate(pieces, 1):
        whole += receiver.decode(piece, final=number == len(pieces), limit=limit - len(whole))
    return whole


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def code_of(receiver: DeflateCodec, pieces: Sequence[bytes], limit: int = NO_LIMIT) -> int:
    with pytest.raises(CodecError) as caught:
        decode_pieces(receiver, pieces, limit)
    # A Close frame can carry it (RFC 6455 s5.5).
    assert 0 < len(caught.value.reason.encode()) <= 123
    return caught.value.code


class Peer:
    """The other side, written with zlib alone."""

    def __init__(self, bits: int = 15, takeover: bool = True, level: int = 9, strategy: int = 0) -> None:
        self.bits = bits
        self.takeover = takeover
        self.level = level
        self.strategy = strategy
        self.compressor = self.new_compressor()
        self.decompressor = zlib.decompressobj(-bits)

    def new_compressor(self, zdict: bytes = b"") -> Any:
        arguments = (self.level, zlib.DEFLATED, -max(self.bits, 9), 9, self.strategy)
        return zlib.compressobj(*arguments, zdict) if zdict else zlib.compressobj(*arguments)

    def compress(self, data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
        """s7.2.1, or with a final block, s7.2.3.4."""
        if flush == zlib.Z_FINISH:
            payload = self.compressor.compress(data) + self.compressor.flush()
            self.compressor = self.new_compressor()
            return bytes(payload + b"\x00")
        payload = self.compressor.compress(data) + self.compressor.flush(flush)
        if not self.takeover:
            self.compressor = self.new_compressor()
        if not payload:
            return b"\x00"
        assert payload.endswith(TAIL)
        return bytes(payload[:-4])

    def decompress(self, payload: bytes) -> bytes:
        """s7.2.2."""
        data = self.decompressor.decompress(payload + TAIL)
        assert not self.decompressor.eof
        if not self.takeover:
            self.decompressor = zlib.decompressobj(-self.bits)
        return data


def strict_inflate(payloads: Sequence[bytes], bits: int) -> list[bytes]:
    """Inflate with exactly that window: zlib looks at the distance only beyond what one call has put out."""
    inflater = zlib.decompressobj(-bits)
    messages = []
    for payload in payloads:
        message = b""
        rest = payload + TAIL
        while rest:
            message += inflater.decompress(rest[:1], 1)
            rest = inflater.unconsumed_tail + rest[1:]
        while piece := inflater.decompress(b"", 1):
            message += piece
        messages.append(message)
    return messages


def text(size: int, seed: int = 1) -> bytes:
    """Readable data that compresses, with repetitions at many distances."""
    words = [f"w{(seed * n * n + 7) % 997:x}" for n in range(300)]
    out = " ".join(words[(n * n + seed) % 300] for n in range(size // 3 + 1))
    return out.encode()[:size]


# The examples of RFC 7692 s7.2.3, byte for byte.

HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
HELLO_AGAIN = bytes.fromhex("f2 00 11 00 00")
HELLO_STORED = bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00")
HELLO_FINAL = bytes.fromhex("f3 48 cd c9 c9 07 00 00")
HELLO_TWO_BLOCKS = bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00")


def test_example_7_2_3_1_one_block() -> None:
    assert encode(codec(), b"Hello") == HELLO
    assert decode(codec(), HELLO) == b"Hello"
    # "The first fragment ... 0x41 0x03 0xf2 0x48 0xcd, the second ... 0x80 0x04 0xc9 0xc9 0x07 0x00"
    assert decode_pieces(codec(), [HELLO[:3], HELLO[3:]]) == b"Hello"


def test_example_7_2_3_2_sharing_the_window() -> None:
    sender, receiver = codec(), codec()
    assert [encode(sender, b"Hello") for _ in range(2)] == [HELLO, HELLO_AGAIN]
    assert [decode(receiver, payload) for payload in (HELLO, HELLO_AGAIN)] == [b"Hello", b"Hello"]
    alone = codec(send_takeover=False, receive_takeover=False)
    assert [encode(alone, b"Hello") for _ in range(2)] == [HELLO, HELLO]
    assert decode(alone, HELLO) == b"Hello"
    # Without the window the distance leads to nowhere.
    assert code_of(alone, [HELLO_AGAIN]) == 1007


def test_example_7_2_3_3_no_compression() -> None:
    assert decode(codec(), HELLO_STORED) == b"Hello"


def test_example_7_2_3_4_bfinal() -> None:
    receiver = codec()
    assert [decode(receiver, payload) for payload in (HELLO_FINAL, HELLO_FINAL, HELLO)] == [b"Hello"] * 3


def test_example_7_2_3_5_two_blocks() -> None:
    assert decode(codec(), HELLO_TWO_BLOCKS) == b"Hello"
    sender = codec()
    frames = [sender.encode(b"He", first=True, final=False), sender.encode(b"llo", first=False, final=True)]
    assert b"".join(frames) == HELLO_TWO_BLOCKS


def test_example_7_2_3_6_empty_message() -> None:
    sender, receiver = codec(), codec()
    assert encode(sender, b"") == b"\x00"
    assert decode(receiver, b"\x00") == b""
    assert encode(sender, b"Hello") == HELLO
    assert encode(sender, b"") == b"\x00"
    assert [decode(receiver, p) for p in (HELLO, b"\x00", HELLO_AGAIN)] == [b"Hello", b"", b"Hello"]


# Settings.


@pytest.mark.parametrize(
    ("arguments", "error", "what"),
    [
        ({SNC: 1}, TypeError, SNC),
        ({CNC: None}, TypeError, CNC),
        ({SMW: True}, TypeError, "server_max_window_bits must be an int or None, not True"),
        ({SMW: "12"}, TypeError, SMW),
        ({SMW: 7}, ValueError, "server_max_window_bits must be between 8 and 15 or None, not 7"),
        ({SMW: 16}, ValueError, SMW),
        ({CMW: False}, TypeError, "client_max_window_bits must be an int, True or None, not False"),
        ({CMW: 12.0}, TypeError, CMW),
        ({CMW: 7}, ValueError, CMW),
        ({CMW: 16}, ValueError, CMW),
        ({"level": 0}, ValueError, "level must be between 1 and 9, not 0"),
        ({"level": 10}, ValueError, "level"),
        ({"level": None}, TypeError, "level"),
        ({"mem_level": 0}, ValueError, "mem_level"),
        ({"mem_level": 10}, ValueError, "mem_level"),
        ({"min_size": -1}, ValueError, "min_size must be at least 0, not -1"),
        ({"min_size": True}, TypeError, "min_size"),
    ],
)
def test_settings_are_checked(arguments: dict[str, Any], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        PermessageDeflate(**arguments)


def test_settings_and_codec_fit_the_protocols() -> None:
    factory: ExtensionFactory = PermessageDeflate(min_size=7)
    extension: PerMessageExtension | None = factory.accept_offer(())
    assert extension is not None
    assert (factory.name, extension.name, extension.params, extension.min_size) == (PMD, PMD, (), 7)
    assert repr(extension) == "<DeflateCodec permessage-deflate>"
    assert PermessageDeflate() == PermessageDeflate(level=3, mem_level=5)


@pytest.mark.parametrize(
    ("arguments", "offer"),
    [
        ({}, f"{PMD}; {SMW}=12; {CMW}=12"),
        ({SMW: None, CMW: None}, PMD),
        ({SMW: None, CMW: True}, f"{PMD}; {CMW}"),
        ({SMW: None, CMW: 15}, f"{PMD}; {CMW}=15"),
        # 8 bits: asked of the peer, but never promised for ourselves.
        ({SMW: 8, CMW: None}, f"{PMD}; {SMW}=8"),
        ({SMW: None, CMW: 8}, f"{PMD}; {CMW}=9"),
        (
            {SNC: True, CNC: True, SMW: 10, CMW: 11},
            f"{PMD}; {SNC}; {CNC}; {SMW}=10; {CMW}=11",
        ),
    ],
)
def test_client_offers(arguments: dict[str, Any], offer: str) -> None:
    assert offer_extensions([PermessageDeflate(**arguments)]) == offer


# Negotiation: the server's side. What comes out: the response's parameters, window and context takeover for sending,
# and the same for receiving. None: declined.

ANY: dict[str, Any] = {SMW: None, CMW: None}
SERVER: list[tuple[dict[str, Any], str, tuple[str, int, bool, int, bool] | None]] = [
    # The plainest offer: our window is limited without saying so, the client's cannot be.
    ({}, f"{PMD}", ("", 12, True, 15, True)),
    (ANY, f"{PMD}", ("", 15, True, 15, True)),
    # What browsers send.
    ({}, f"{PMD}; {CMW}", (f"; {CMW}=12", 12, True, 12, True)),
    ({CMW: None}, f"{PMD}; {CMW}", ("", 12, True, 15, True)),
    ({CMW: True}, f"{PMD}; {CMW}", ("", 12, True, 15, True)),
    ({CMW: 15}, f"{PMD}; {CMW}", ("", 12, True, 15, True)),
    ({CMW: 8}, f"{PMD}; {CMW}", (f"; {CMW}=8", 12, True, 8, True)),
    # With a value it is a hint, which may be taken up or undercut.
    ({}, f"{PMD}; {CMW}=15", (f"; {CMW}=12", 12, True, 12, True)),
    ({}, f"{PMD}; {CMW}=10", (f"; {CMW}=10", 12, True, 10, True)),
    ({}, f"{PMD}; {CMW}=8", (f"; {CMW}=8", 12, True, 8, True)),
    ({CMW: True}, f"{PMD}; {CMW}=10", (f"; {CMW}=10", 12, True, 10, True)),
    ({CMW: True}, f"{PMD}; {CMW}=15", ("", 12, True, 15, True)),
    ({CMW: None}, f"{PMD}; {CMW}=10", ("", 12, True, 15, True)),
    # Our own window: the same or smaller, and then it is said.
    ({}, f"{PMD}; {SMW}=15", (f"; {SMW}=12", 12, True, 15, True)),
    ({}, f"{PMD}; {SMW}=12", (f"; {SMW}=12", 12, True, 15, True)),
    ({}, f"{PMD}; {SMW}=9", (f"; {SMW}=9", 9, True, 15, True)),
    ({SMW: None}, f"{PMD}; {SMW}=15", (f"; {SMW}=15", 15, True, 15, True)),
    ({SMW: None}, f"{PMD}; {SMW}=10", (f"; {SMW}=10", 10, True, 15, True)),
    ({}, f'{PMD}; {SMW}="10"', (f"; {SMW}=10", 10, True, 15, True)),
    ({}, f'{PMD}; {SMW}="1\\0"', (f"; {SMW}=10", 10, True, 15, True)),
    # 8 bits are more than zlib can promise.
    ({}, f"{PMD}; {SMW}=8", None),
    ({SMW: 8}, f"{PMD}; {SMW}=8", None),
    ({SMW: 8}, f"{PMD}; {SMW}=10", (f"; {SMW}=9", 9, True, 15, True)),
    ({SMW: 8}, f"{PMD}", ("", 9, True, 15, True)),
    ({}, f"{PMD}; {SMW}=8, {PMD}; {SMW}=9", (f"; {SMW}=9", 9, True, 15, True)),
    ({}, f"{PMD}; {SMW}=8, {PMD}; {CMW}", (f"; {CMW}=12", 12, True, 12, True)),
    # Context takeover: each side can ask for less, and neither can refuse.
    ({}, f"{PMD}; {SNC}", (f"; {SNC}", 12, False, 15, True)),
    ({}, f"{PMD}; {CNC}", (f"; {CNC}", 12, True, 15, False)),
    ({SNC: True}, f"{PMD}", (f"; {SNC}", 12, False, 15, True)),
    ({CNC: True}, f"{PMD}", (f"; {CNC}", 12, True, 15, False)),
    ({SNC: True, CNC: True}, f"{PMD}; {CNC}; {SNC}", (f"; {SNC}; {CNC}", 12, False, 15, False)),
    (
        {SNC: True},
        f"{PMD}; {CMW}; {SMW}=10; {CNC}",
        (f"; {SNC}; {CNC}; {SMW}=10; {CMW}=12", 10, False, 12, False),
    ),
    # s7: these MUST be declined.
    ({}, f"{PMD}; unknown", None),
    ({}, f"{PMD}; {SMW}", None),
    ({}, f"{PMD}; {SMW}=7", None),
    ({}, f"{PMD}; {SMW}=16", None),
    ({}, f"{PMD}; {SMW}=09", None),
    ({}, f"{PMD}; {SMW}=+9", None),
    ({}, f"{PMD}; {SMW}=0x9", None),
    ({}, f"{PMD}; {SMW}=1e1", None),
    ({}, f"{PMD}; {SMW}=100", None),
    ({}, f"{PMD}; {CMW}=7", None),
    ({}, f"{PMD}; {CMW}=16", None),
    ({}, f"{PMD}; {CMW}=010", None),
    ({CMW: None}, f"{PMD}; {CMW}=x", None),
    ({}, f"{PMD}; {SNC}=1", None),
    ({}, f"{PMD}; {SNC}=true", None),
    ({}, f"{PMD}; {CNC}=0", None),
    ({}, f"{PMD}; {SNC}; {SNC}", None),
    ({}, f"{PMD}; {CMW}; {CMW}", None),
    ({}, f"{PMD}; {CMW}; {CMW}=10", None),
    ({}, f"{PMD}; {SMW}=10; {SMW}=10", None),
    ({}, f"{PMD}; SERVER_NO_CONTEXT_TAKEOVER", None),
    ({}, "x-webkit-deflate-frame", None),
    ({}, "Permessage-Deflate", None),
    # Several offers, several lines: the first acceptable one, and whatever else there is is left alone.
    ({}, f"{PMD}; unknown, {PMD}", ("", 12, True, 15, True)),
    ({}, f"x-webkit-deflate-frame, {PMD}; {SNC}, {PMD}", (f"; {SNC}", 12, False, 15, True)),
    ({}, f"{PMD}, {PMD}; {SNC}", ("", 12, True, 15, True)),
    ({}, f"{PMD}; {SMW}=16\n{PMD}; {SMW}=11", (f"; {SMW}=11", 11, True, 15, True)),
    ({}, f"foo\n\n{PMD}; {SMW}=11, bar", (f"; {SMW}=11", 11, True, 15, True)),
]


@pytest.mark.parametrize(("arguments", "lines", "expected"), SERVER)
def test_server_negotiation(
    arguments: dict[str, Any], lines: str, expected: tuple[str, int, bool, int, bool] | None
) -> None:
    agreed, response = negotiate_extensions(lines.split("\n"), [PermessageDeflate(**arguments)])
    if expected is None:
        assert (agreed, response) == ([], None)
        return
    assert response == PMD + expected[0]
    [extension] = agreed
    assert isinstance(extension, DeflateCodec)
    assert expected[1:] == (
        extension.agreed.send_bits,
        extension.agreed.send_takeover,
        extension.agreed.receive_bits,
        extension.agreed.receive_takeover,
    )


# The client's side: settings, response, and the same five, or what the error says.

CLIENT: list[tuple[dict[str, Any], str, tuple[int, bool, int, bool] | str]] = [
    # Nothing said about the server's window, asked for or not: it may use 15.
    ({}, "", (12, True, 15, True)),
    (ANY, "", (15, True, 15, True)),
    ({}, f"; {SMW}=12", (12, True, 12, True)),
    ({}, f"; {SMW}=9; {CMW}=10", (10, True, 9, True)),
    ({}, f"; {SMW}=8", (12, True, 8, True)),
    ({SMW: 8}, f"; {SMW}=8", (12, True, 8, True)),
    ({}, f'; {SMW}="11"', (12, True, 11, True)),
    # Not asked for, and still the server's to say.
    (ANY, f"; {SMW}=15", (15, True, 15, True)),
    (ANY, f"; {SMW}=8", (15, True, 8, True)),
    ({}, f"; {SMW}=13", f"{SMW} is larger than the 12"),
    ({SMW: 8}, f"; {SMW}=9", f"{SMW} is larger than the 8"),
    # Our own window: only if offered, and never more.
    ({}, f"; {CMW}=12", (12, True, 15, True)),
    ({}, f"; {CMW}=9", (9, True, 15, True)),
    ({}, f"; {CMW}=8", (8, True, 15, True)),
    ({CMW: 8}, "", (9, True, 15, True)),
    ({CMW: 8}, f"; {CMW}=9", (9, True, 15, True)),
    ({CMW: True}, "", (15, True, 15, True)),
    ({CMW: True}, f"; {CMW}=15", (15, True, 15, True)),
    ({CMW: True}, f"; {CMW}=8", (8, True, 15, True)),
    # A server may ignore the hint (the Autobahn suite answers 15 to everything); what we promised holds.
    ({}, f"; {CMW}=13", (12, True, 15, True)),
    ({}, f"; {CMW}=15", (12, True, 15, True)),
    ({CMW: 8}, f"; {CMW}=10", (9, True, 15, True)),
    ({CMW: None}, f"; {CMW}=15", f"{CMW} was not offered"),
    ({CMW: None}, f"; {CMW}=8", f"{CMW} was not offered"),
    ({CMW: True}, f"; {CMW}", f"{CMW} has no value"),
    # Context takeover.
    ({}, f"; {SNC}", (12, True, 15, False)),
    ({}, f"; {CNC}", (12, False, 15, True)),
    ({}, f"; {CNC}; {SNC}", (12, False, 15, False)),
    ({SNC: True}, f"; {SNC}", (12, True, 15, False)),
    ({SNC: True}, "", f"{SNC} was asked for and is missing"),
    ({SNC: True}, f"; {CNC}", f"{SNC} was asked for and is missing"),
    ({CNC: True}, "", (12, False, 15, True)),
    ({CNC: True}, f"; {CNC}", (12, False, 15, True)),
    # Broken ones.
    ({}, "; unknown", "unknown is unknown"),
    ({}, f"; {SNC}; {SNC}", f"{SNC} is there twice"),
    ({}, f"; {SMW}=10; {SMW}=10", f"{SMW} is there twice"),
    ({}, f"; {SNC}=1", f"{SNC} has a value"),
    ({}, f"; {CNC}=x", f"{CNC} has a value"),
    ({}, f"; {SMW}", f"{SMW} has no value"),
    ({}, f"; {SMW}=7", f"{SMW} is not a number from 8 to 15"),
    ({}, f"; {SMW}=09", f"{SMW} is not a number from 8 to 15"),
    ({}, f"; {CMW}=16", f"{CMW} is not a number from 8 to 15"),
    ({}, f"; {CMW}=012", f"{CMW} is not a number from 8 to 15"),
    ({}, f", {PMD}", "permessage-deflate twice"),
    ({}, ", foo", "foo, which was not offered"),
]


@pytest.mark.parametrize(("arguments", "response", "expected"), CLIENT)
def test_client_negotiation(
    arguments: dict[str, Any], response: str, expected: tuple[int, bool, int, bool] | str
) -> None:
    factory = PermessageDeflate(**arguments)
    if isinstance(expected, str):
        with pytest.raises(HandshakeError, match=expected):
            check_extensions([PMD + response], [factory])
        return
    [extension] = check_extensions([PMD + response], [factory])
    assert isinstance(extension, DeflateCodec)
    assert expected == (
        extension.agreed.send_bits,
        extension.agreed.send_takeover,
        extension.agreed.receive_bits,
        extension.agreed.receive_takeover,
    )
    [item] = parse_extensions([PMD + response])
    assert sorted(extension.params) == sorted(item.params)


@pytest.mark.parametrize("names", list(itertools.permutations([SNC, CNC, SMW + "=9", CMW + "=10"])))
def test_params_have_one_order(names: Sequence[str]) -> None:
    [extension] = check_extensions(["; ".join([PMD, *names])], [PermessageDeflate()])
    expected = f"{PMD}; {SNC}; {CNC}; {SMW}=9; {CMW}=10"
    assert format_extensions([ExtensionItem(PMD, extension.params)]) == expected
    assert repr(extension) == f"<DeflateCodec {expected}>"


all_settings = st.builds(
    PermessageDeflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.none() | st.integers(8, 15),
    client_max_window_bits=st.none() | st.just(True) | st.integers(8, 15),
    level=st.integers(1, 9),
    mem_level=st.integers(1, 9),
)
# Bytes from a small alphabet repeat themselves, with the long ones at distances beyond any window.
messages = st.one_of(
    st.binary(max_size=200),
    st.builds(bytes, st.lists(st.sampled_from(b"ab"), max_size=300)),
    st.builds(text, st.integers(0, 5000), st.integers(1, 9)),
    st.builds(
        lambda unit, times: (unit * times)[:70000], st.binary(min_size=1, max_size=9), st.integers(0, 20000)
    ),
)


@settings(max_examples=200)
@given(client=all_settings, server=all_settings, data=st.data())
def test_our_two_sides_always_agree_and_understand_each_other(
    client: PermessageDeflate, server: PermessageDeflate, data: st.DataObject
) -> None:
    offer = offer_extensions([client])
    assert offer is not None
    agreed, response = negotiate_extensions([offer], [server])
    if client.server_max_window_bits == 8:
        assert not agreed
        return
    [ours] = agreed
    assert response is not None
    [theirs] = check_extensions([response], [client])
    assert isinstance(ours, DeflateCodec)
    assert isinstance(theirs, DeflateCodec)
    assert ours.params == theirs.params
    for sender, receiver in (ours, theirs), (theirs, ours):
        assert sender.agreed.send_bits <= max(receiver.agreed.receive_bits, 9)
        assert sender.agreed.send_takeover <= receiver.agreed.receive_takeover
        for message in data.draw(st.lists(messages, max_size=3)):
            assert decode(receiver, encode(sender, message), limit=len(message)) == message


# Sending, with zlib as the receiver.

message_lists = st.lists(st.tuples(messages, st.lists(st.integers(0, 1 << 20), max_size=4)), max_size=6)


@given(
    message_lists,
    st.integers(9, 15),
    st.booleans(),
    st.sampled_from([1, 3, 6, 9]),
    st.sampled_from([1, 5, 9]),
)
@example([(b"", []), (b"", [0, 0]), (b"a", [0, 1]), (b"", [])], 9, True, 6, 8)
def test_zlib_inflates_what_we_send(
    sequence: list[tuple[bytes, list[int]]], bits: int, takeover: bool, level: int, mem_level: int
) -> None:
    sender = codec(send_bits=bits, send_takeover=takeover, level=level, mem_level=mem_level)
    peer = Peer(bits, takeover)
    for message, places in sequence:
        payload = b""
        pieces = cut(message, places)
        so_far = b""
        follower = peer.decompressor.copy()
        for number, piece in enumerate(pieces, 1):
            frame = sender.encode(piece, first=number == 1, final=number == len(pieces))
            payload += frame
            # Each fragment can be inflated when it arrives.
            so_far += follower.decompress(frame)
            assert so_far == b"".join(pieces[:number])
        assert peer.decompress(payload) == message


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", range(8, 16))
def test_we_stay_within_the_window(bits: int, takeover: bool) -> None:
    noise = os.urandom(400)
    sent = [text(4000), text(4000), b"x" * 2000, noise + noise, noise, b""]
    sender = codec(send_bits=bits, send_takeover=takeover, level=9)
    payloads = [encode(sender, message) for message in sent]
    assert strict_inflate(payloads, bits) == sent
    # Also with 8 bits there is something to gain.
    assert len(payloads[0]) < 0.8 * len(sent[0])
    assert len(payloads[2]) < 40


def test_with_8_bits_there_are_no_references_but_to_the_byte_before() -> None:
    """zlib's window of 9 bits reaches 250 bytes back, but nobody promises that; Z_RLE is documented."""
    noise = os.urandom(100)
    assert len(encode(codec(send_bits=8, level=9), noise + noise)) >= 200
    assert len(encode(codec(send_bits=9, level=9), noise + noise)) < 130


def test_without_takeover_every_message_stands_alone() -> None:
    sender = codec(send_takeover=False)
    data = text(3000)
    assert encode(sender, data) == encode(sender, data)
    assert len(encode(codec(), data)) == len(encode(sender, data))
    with_takeover = codec()
    assert len(encode(with_takeover, data)) > 5 * len(encode(with_takeover, data))
    # A fragmented message is one message, also when its last fragment is empty.
    frames = [sender.encode(data, first=True, final=False), sender.encode(data, first=False, final=False)]
    assert len(frames[1]) < len(frames[0]) / 5
    assert sender.encode(b"", first=False, final=True) == b"\x00"
    assert encode(sender, data) == encode(codec(), data)


# Receiving, with zlib as the sender.

FLUSHES = [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH]
STRATEGIES = [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]


@given(
    st.lists(
        st.tuples(messages, st.lists(st.integers(0, 1 << 20), max_size=5), st.sampled_from(FLUSHES)),
        max_size=6,
    ),
    st.integers(8, 15),
    st.booleans(),
    st.integers(0, 9),
    st.sampled_from(STRATEGIES),
)
def test_we_inflate_what_zlib_sends(
    sequence: list[tuple[bytes, list[int], int]], bits: int, takeover: bool, level: int, strategy: int
) -> None:
    peer = Peer(bits, takeover, level, strategy)
    receiver = codec(receive_bits=bits, receive_takeover=takeover)
    for message, places, flush in sequence:
        payload = peer.compress(message, flush)
        assert decode_pieces(receiver, cut(payload, places), limit=len(message)) == message
        # Nothing but the window is kept between messages.
        assert receiver._inflater is None
        assert len(receiver._history or b"") <= (max(1 << bits, 512) if takeover else 0)


@given(messages, st.lists(st.integers(0, 1 << 20), max_size=6), st.sampled_from(FLUSHES), st.data())
def test_the_limit_is_exact_wherever_the_input_is_cut(
    message: bytes, places: list[int], flush: int, data: st.DataObject
) -> None:
    payload = Peer().compress(message, flush)
    pieces = cut(payload, places)
    assert decode_pieces(codec(), pieces, limit=len(message)) == message
    if message:
        limit = data.draw(st.integers(0, len(message) - 1) | st.just(len(message) - 1))
        assert code_of(codec(), pieces, limit) == 1009
        assert code_of(codec(), [*pieces, b""], limit) == 1009


def test_a_limit_of_nothing_and_of_less() -> None:
    assert decode(codec(), b"\x00", limit=0) == b""
    assert code_of(codec(), [HELLO], limit=0) == 1009
    assert code_of(codec(), [HELLO], limit=-1) == 1009
    assert decode(codec(), HELLO, limit=(1 << 63) - 1) == b"Hello"
    assert decode(codec(), HELLO, limit=1 << 70) == b"Hello"


def test_windows_of_every_size_go_on_across_messages() -> None:
    for bits in range(9, 16):
        noise = os.urandom((1 << bits) - 300)
        peer, receiver = Peer(bits), codec(receive_bits=bits)
        sizes = []
        for message in (noise, noise[:200], noise[-500:], noise[:150]):
            payload = peer.compress(message)
            sizes.append(len(payload))
            assert decode(receiver, payload) == message
        # The test is worth something: the peer did refer back.
        assert max(sizes[1:]) < 150


def test_many_small_messages_move_the_window() -> None:
    peer, receiver = Peer(9), codec(receive_bits=9)
    for number in range(2000):
        message = f"message {number % 23} of many".encode()
        assert decode(receiver, peer.compress(message)) == message
    assert len(receiver._history or b"") == 512


@pytest.mark.parametrize(("bits", "window"), [(8, 512), (9, 512), (12, 4096), (15, 32768)])
def test_the_window_has_exactly_the_agreed_size(bits: int, window: int) -> None:
    """But 8 bits count as 9, because that is what an old zlib makes of them."""
    piece = os.urandom(40)
    # In one message, in one and a small one, and in many small ones.
    for sizes in (), (10,), [20] * (window // 20 - 3):
        for distance, legal in (window, True), (window + 1, False):
            if distance > 32768:
                continue  # no deflate stream can say that
            filler = os.urandom(distance - len(piece) - sum(sizes))
            sent = [piece + filler, *(os.urandom(size) for size in sizes)]
            # The codes say: copy 40 bytes from there.
            match = reference(distance)
            receiver = codec(receive_bits=bits)
            for message in sent:
                assert decode(receiver, Peer().compress(message, zlib.Z_FULL_FLUSH)) == message
            if legal:
                assert decode(receiver, match) == piece
            else:
                assert code_of(receiver, [match]) == 1007


def reference(distance: int) -> bytes:
    """A payload in fixed codes (RFC 1951 s3.2.6) that is nothing but a match of 40 bytes at a distance."""
    bits = "010"  # BFINAL 0, BTYPE 01 with its low bit first
    # Length 40 is code 273 (35 to 42, 3 extra bits); codes 256 to 279 are 7 bits, counted from 256.
    bits += f"{273 - 256:07b}" + f"{40 - 35:03b}"[::-1]
    code, base, extra = 0, 1, 0
    while base + (1 << extra) <= distance:
        base += 1 << extra
        code += 1
        extra = max(0, code // 2 - 1)
    bits += f"{code:05b}" + (f"{distance - base:0{extra}b}"[::-1] if extra else "")
    bits += "0000000"  # end of block
    bits += "000"  # the empty stored block
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


@given(st.lists(st.integers(0, 1 << 20), max_size=6))
def test_whether_a_liar_succeeds_does_not_depend_on_the_cuts(places: list[int]) -> None:
    """The window agreed is 9 bits; the peer uses 15."""
    noise = random.Random(1).randbytes(3000)
    # Within one message it works, without harm. A full flush is where no later message refers back beyond.
    receiver = codec(receive_bits=9)
    peer = Peer(15)
    for message, flush in (
        (noise + noise, zlib.Z_SYNC_FLUSH),
        (b"Hello", zlib.Z_FULL_FLUSH),
        (noise + noise, zlib.Z_SYNC_FLUSH),
    ):
        assert decode_pieces(receiver, cut(peer.compress(message, flush), places)) == message
    # Across messages the window is what was agreed.
    assert code_of(receiver, cut(peer.compress(noise), places)) == 1007


# Final blocks.


@given(st.lists(st.integers(0, 100), max_size=4))
def test_a_stream_may_end_anywhere_in_a_message(places: list[int]) -> None:
    stream = HELLO_FINAL[:-1]
    for payload, message in [
        (stream + b"\x00", b"Hello"),
        (stream + stream + b"\x00", b"HelloHello"),
        (stream + HELLO, b"HelloHello"),
        (HELLO + TAIL + stream + b"\x00", b"HelloHello"),
        (stream + b"\x03\x00" * 5 + HELLO, b"HelloHello"),
        (b"\x03\x00", b""),
        # Senders exist that leave out the octet after the final block.
        (stream, b"Hello"),
        (stream + stream, b"HelloHello"),
    ]:
        for takeover in (True, False):
            receiver = codec(receive_takeover=takeover)
            for _ in range(3):
                assert decode_pieces(receiver, cut(payload, places)) == message
            assert decode(receiver, HELLO) == b"Hello"
            if takeover:
                assert decode(receiver, HELLO_AGAIN) == b"Hello"


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_the_window_goes_on_after_a_final_block(bits: int) -> None:
    """A sender that ends its streams and still refers back: each new one starts from the window."""
    peer, receiver = Peer(bits), codec(receive_bits=bits)
    history = b""
    noise = os.urandom(240)
    sizes = []
    for message in (noise, noise[-200:], text(100000), text(100000)[-230:], b"", text(100000)[-200:]):
        zdict = history[-(1 << bits) :]
        compressor = peer.new_compressor(zdict)
        payload = compressor.compress(message) + compressor.flush() + b"\x00"
        sizes.append(len(payload))
        assert decode(receiver, payload) == message
        history += message
    assert sizes[1] < 50
    assert sizes[3] < 50


def test_the_window_goes_on_after_a_final_block_within_a_message() -> None:
    noise = os.urandom(400)
    peer = Peer(12)
    first = peer.compress(noise, zlib.Z_FINISH)[:-1]
    compressor = peer.new_compressor(noise)
    second = compressor.compress(noise) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(second) < 50
    for receiver in codec(receive_bits=12), codec(receive_bits=12, receive_takeover=False):
        for pieces in [first + second[:-4]], [first, second[:-4]], [bytes([b]) for b in first + second[:-4]]:
            assert decode_pieces(receiver, pieces) == noise + noise


@pytest.mark.parametrize(
    "payload",
    [
        HELLO_FINAL[:-1] + b"\xff",
        HELLO_FINAL[:-1] + b"garbage",
        HELLO_FINAL[:-1] + b"\x00\x00",
        HELLO_FINAL + b"\x00",
        b"\x03\x00\x07",
    ],
)
@pytest.mark.parametrize("takeover", [True, False])
def test_garbage_after_a_final_block(payload: bytes, takeover: bool) -> None:
    for pieces in [payload], [payload[:7], payload[7:]], [bytes([b]) for b in payload]:
        assert code_of(codec(receive_takeover=takeover), pieces) == 1007


def test_the_limit_counts_across_final_blocks() -> None:
    payload = HELLO_FINAL[:-1] * 100 + b"\x00"
    for pieces in [payload], cut(payload, range(0, 700, 9)):
        assert decode_pieces(codec(), pieces, limit=500) == b"Hello" * 100
        for limit in (499, 498, 5, 4, 0):
            assert code_of(codec(), pieces, limit) == 1009


class CountingZlib:
    """Stands for the zlib module and counts what is fed to inflaters and what they hand back."""

    def __init__(self) -> None:
        self.inflaters = self.fed = self.unused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(zlib, name)

    def decompressobj(self, *arguments: Any) -> CountingInflater:
        self.inflaters += 1
        return CountingInflater(zlib.decompressobj(*arguments), self)


class CountingInflater:
    def __init__(self, inflater: Any, counts: CountingZlib) -> None:
        self.inflater = inflater
        self.counts = counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inflater, name)

    def decompress(self, data: bytes, limit: int) -> bytes:
        self.counts.fed += len(data)
        inflated: bytes = self.inflater.decompress(data, limit)
        self.counts.unused += len(self.inflater.unused_data) + len(self.inflater.unconsumed_tail)
        return inflated


def streams_payload(kind: str) -> tuple[bytes, bytes, int]:
    """A payload of many deflate streams, the message, and how many streams there are."""
    if kind == "tiny":
        return b"\x03\x00" * 20000, b"", 20000
    if kind == "grow":
        peer = Peer()
        parts = [os.urandom(1 << n) for n in range(17)]
        payload = b"".join(peer.compress(part, zlib.Z_FINISH)[:-1] for part in parts)
        return payload, b"".join(parts), len(parts)
    peer = Peer()
    parts = [os.urandom(200000), b"x", os.urandom(200000), b""] * 3
    return b"".join(peer.compress(part, zlib.Z_FINISH)[:-1] for part in parts), b"".join(parts), len(parts)


@pytest.mark.parametrize("kind", ["tiny", "grow", "mixed"])
def test_many_final_blocks_take_linear_work(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    payload, message, streams = streams_payload(kind)
    counts = CountingZlib()
    monkeypatch.setattr(_deflate, "zlib", counts)
    assert decode(codec(), payload) == message
    assert counts.inflaters == streams
    # Once the rest of the frame, and then slices: 256 bytes for each stream, and never twice what was used.
    assert counts.unused <= 3 * len(payload) + 256 * streams
    assert counts.fed <= 4 * len(payload) + 256 * streams


def test_an_ordinary_message_is_fed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes back through unconsumed_tail, which would be copied again and again."""
    message = os.urandom(3 << 20)
    payload = Peer().compress(message)
    counts = CountingZlib()
    monkeypatch.setattr(_deflate, "zlib", counts)
    assert decode(codec(), payload, limit=len(message)) == message
    assert (counts.inflaters, counts.unused) == (1, 0)
    assert counts.fed <= len(payload) + 16


def test_streams_are_counted_per_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deflate, "MAX_STREAMS", 8)
    receiver = codec()
    for _ in range(3):
        assert decode(receiver, b"\x03\x00" * 8) == b""
        assert decode_pieces(receiver, [b"\x03"] + [b"\x00\x03"] * 7 + [b"\x00"]) == b""
    assert code_of(codec(), [b"\x03\x00" * 9]) == 1009
    assert code_of(codec(), [b"\x03\x00"] * 9) == 1009


# Bad data.


@pytest.mark.parametrize(
    ("payload", "between_blocks"),
    [(HELLO, ()), (HELLO_FINAL[:-1], ()), (HELLO_STORED, (1,)), (HELLO_TWO_BLOCKS, (4,))],
)
def test_a_message_that_ends_inside_a_block(payload: bytes, between_blocks: tuple[int, ...]) -> None:
    for end in set(range(1, len(payload))).difference(between_blocks):
        for pieces in [payload[:end]], [bytes([b]) for b in payload[:end]], [payload[:end], b""]:
            assert code_of(codec(), pieces) == 1007


def test_a_message_that_ends_inside_a_table() -> None:
    """A block's dynamic codes are long, and zlib says nothing while it reads them."""
    payload = Peer().compress(text(3000))
    assert payload[0] & 7 == 4  # BFINAL 0, BTYPE 10
    for end in range(1, len(payload)):
        assert code_of(codec(), [payload[:end]]) == 1007


def test_a_sender_that_does_not_remove_the_tail() -> None:
    """s7.2.2 makes half a block of it, which zlib would complete with the next message."""
    for payload in HELLO + TAIL, HELLO_FINAL + TAIL, b"\x00" + TAIL, TAIL:
        assert code_of(codec(), [payload]) == 1007


@given(
    messages.filter(bool),
    st.sampled_from(FLUSHES),
    st.integers(0, 1 << 20),
    st.lists(st.integers(0, 1 << 20)),
)
def test_any_truncation_fails_or_was_between_blocks(
    message: bytes, flush: int, end: int, places: list[int]
) -> None:
    payload = Peer().compress(message, flush)
    payload = payload[: end % len(payload)]
    probe = zlib.decompressobj(-15)
    try:
        probe.decompress(payload)
        # An empty stored block ends here; and then a block of fixed codes without content, which is the last one.
        expected = probe.decompress(TAIL + b"\x03\x00") == b"" and probe.eof and not probe.unused_data
    except zlib.error:
        expected = False
    pieces = cut(payload, places)
    if (
        expected
        or not payload
        or (payload == Peer().compress(message, flush)[:-1] and flush == zlib.Z_FINISH)
    ):
        assert message.startswith(decode_pieces(codec(), pieces))
    else:
        assert code_of(codec(), pieces) == 1007


@given(
    st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.integers(0, 2000), st.booleans()
)
@example(b"\x07", [], 100, True)
@example(b"\x00", [], 0, True)
@example(b"\x00\x04\x00\xfb\xff", [], 100, True)
def test_any_bytes_give_one_outcome(payload: bytes, places: list[int], limit: int, takeover: bool) -> None:
    """And the same one in pieces, but that a message may be wrong in two ways at once."""
    outcomes: list[bytes | int] = []
    for pieces in [payload], cut(payload, places):
        try:
            inflated = decode_pieces(codec(receive_takeover=takeover), pieces, limit)
            assert len(inflated) <= limit
            outcomes.append(inflated)
        except CodecError as exc:
            outcomes.append(exc.code)
    assert outcomes[0] == outcomes[1] or set(outcomes) == {1007, 1009}
    assert isinstance(outcomes[0], bytes) or outcomes[0] in (1007, 1009)


@pytest.mark.parametrize(
    "pieces", [[b""], [b"", b""], [b"", b"\x00"], [b"\x00", b""], [b"\x00\x00\x00\xff\xff", b"\x00"]]
)
def test_empty_messages_in_pieces(pieces: list[bytes]) -> None:
    receiver = codec()
    assert decode(receiver, HELLO) == b"Hello"
    assert decode_pieces(receiver, pieces) == b""
    assert decode(receiver, HELLO_AGAIN) == b"Hello"


def test_endless_empty_blocks_are_nothing() -> None:
    payload = b"\x00\x00\x00\xff\xff" * 50000 + b"\x00"
    receiver = codec()
    assert decode(receiver, payload, limit=0) == b""
    assert decode_pieces(receiver, [b"\x00\x00\x00\xff\xff"] * 5000 + [b"\x00"], limit=0) == b""


# Memory.


def traced_peak(call: Any) -> tuple[int, Any]:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        return tracemalloc.get_traced_memory()[1] - before, result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit", [-1, 0, 1000, 1 << 16, 1 << 20])
@pytest.mark.parametrize("takeover", [True, False])
def test_a_bomb_costs_the_limit_and_not_its_size(limit: int, takeover: bool) -> None:
    payload = Peer().compress(bytes(64 << 20))
    assert len(payload) < 70000
    for pieces in [payload], [payload[:1024], payload[1024:]], cut(payload, range(0, len(payload), 100)):
        receiver = codec(receive_takeover=takeover)
        peak, code = traced_peak(lambda r=receiver, p=pieces: code_of(r, p, limit))
        assert code == 1009
        # zlib's state and window, the rest of the input, and twice the output, as CPython joins its blocks.
        assert peak < 3 * limit + 300_000


def test_a_kibibyte_is_stopped_at_the_first_byte_too_much() -> None:
    payload = Peer().compress(bytes(1 << 20))
    assert len(payload) < 1100
    assert code_of(codec(), [payload], (1 << 20) - 1) == 1009
    assert decode(codec(), payload, limit=1 << 20) == bytes(1 << 20)


def test_nothing_is_allocated_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"zlib.{name}")

    [client] = check_extensions([PMD], [PermessageDeflate()])
    server = PermessageDeflate().accept_offer(())
    assert server is not None
    with monkeypatch.context() as patched:
        patched.setattr(_deflate, "zlib", Forbidden())
        for extension in client, server:
            assert extension.encode(b"", first=True, final=True) == b"\x00"
            assert extension.decode(b"", final=True, limit=0) == b""
    # Receiving needs no compressor and sending no inflater.
    server.encode(b"Hello", first=True, final=True)
    assert server._inflater is None
    assert not server._history
    assert isinstance(client, DeflateCodec)
    client.decode(HELLO, final=True, limit=5)
    assert client._deflater is None


def test_an_idle_connection_keeps_what_the_settings_promise() -> None:
    peer = Peer(12)
    message = json.dumps([{"id": n, "name": f"user {n}"} for n in range(2000)]).encode()
    payloads = [peer.compress(message) for _ in range(5)]

    def keep(settings: PermessageDeflate, payloads: list[bytes], sent: list[bytes]) -> tuple[int, Any]:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            extension = settings.accept_offer(((CMW, None),))
            assert extension is not None
            for payload in payloads:
                extension.decode(payload, final=True, limit=len(message))
            for data in sent:
                extension.encode(data, first=True, final=True)
            return tracemalloc.get_traced_memory()[0] - before, extension
        finally:
            tracemalloc.stop()

    receiving, _ = keep(PermessageDeflate(), payloads, [])
    assert receiving < 1.25 * 4096 + 2000
    sending, _ = keep(PermessageDeflate(), [], [message] * 3)
    assert sending < (1 << 14) + (1 << 14) + 12000
    nothing, _ = keep(
        PermessageDeflate(server_no_context_takeover=True, client_no_context_takeover=True), [], [message] * 3
    )
    assert nothing < 2000
    alone = Peer(12, takeover=False)
    nothing, _ = keep(
        PermessageDeflate(client_no_context_takeover=True), [alone.compress(message) for _ in range(3)], []
    )
    assert nothing < 2000
