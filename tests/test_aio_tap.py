"""The tap of the asyncio `connect`: it hears every byte of both directions, and changes nothing."""

from __future__ import annotations

import asyncio

import pytest

from wsframe.aio import HandshakeRejected, Tap, WebSocket, connect, serve


class Recorder:
    """Keeps what it hears, in order."""

    def __init__(self) -> None:
        self.chunks: list[tuple[str, bytes]] = []

    def received(self, data: memoryview | bytes | bytearray) -> None:
        self.chunks.append(("received", bytes(data)))

    def sent(self, data: bytes) -> None:
        self.chunks.append(("sent", data))

    def all(self, direction: str) -> bytes:
        return b"".join(data for which, data in self.chunks if which == direction)


async def echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


def test_a_tap_hears_handshake_frames_and_closing() -> None:
    async def main() -> None:
        recorder = Recorder()
        tap: Tap = recorder
        async with serve(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/", tap=tap) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
        head, _, frames = recorder.all("sent").partition(b"\r\n\r\n")
        assert head.startswith(b"GET / HTTP/1.1\r\n")
        # A masked text frame of 5 bytes, and a masked Close with 1000.
        assert frames[:2] == b"\x81\x85"
        assert frames[11:13] == b"\x88\x82"
        assert len(frames) == 2 + 4 + 5 + 2 + 4 + 2
        head, _, frames = recorder.all("received").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert frames == b"\x81\x05hello\x88\x02\x03\xe8"
        assert [which for which, _ in recorder.chunks] == ["sent", "received"] * 3

    asyncio.run(main())


def test_a_tap_hears_a_refusal() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with serve(echo, "127.0.0.1", 0, origins=["https://example.org"]) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(HandshakeRejected):
                await connect(f"ws://127.0.0.1:{port}/", tap=recorder, origin="https://other.example")
        assert recorder.all("received").startswith(b"HTTP/1.1 403 ")

    asyncio.run(main())
