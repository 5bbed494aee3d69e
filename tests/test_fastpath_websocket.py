"""What a WebSocket's user sees of the fast path: nothing but that it is fast."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
from typing import Any

import pytest

from adapterhelpers import nothing_left
from aiohelpers import (
    DEADLINE,
    LOOP_TRANSPORTS,
    LOOPS,
    aio_test,
    echo,
    expect_log,
    loop_factory,
    open_raw,
    run,
    uri_of,
    warm_up,
)
from wsframe import Limits, _backend
from wsframe.aio import Application, WebSocket, connect, serve
from wsframe.aio._transports import as_own_transport


class Interrupts(Application):
    """An application that somebody ends with Ctrl-C."""

    def on_message(self, websocket: WebSocket, message: str | bytes) -> None:
        raise KeyboardInterrupt


async def interrupts(ws: WebSocket) -> None:
    await ws.recv()
    raise KeyboardInterrupt


@pytest.mark.parametrize("handler", [interrupts, Interrupts()], ids=["handler", "application"])
@pytest.mark.parametrize("loop_kind", LOOPS)
def test_what_ends_the_program_ends_it_and_leaves_nothing(loop_kind: str, handler: Any) -> None:
    def interrupted() -> None:
        with asyncio.Runner(loop_factory=loop_factory(loop_kind)) as runner:
            runner.run(main())

    async def main() -> None:
        options: Any = {"ping_interval": None, "close_timeout": 0.1}
        async with (
            serve(handler, "127.0.0.1", 0, **options) as server,
            connect(uri_of(server), **options) as ws,
        ):
            await ws.send("hello")
            await asyncio.sleep(DEADLINE)

    warm_up(loop_kind)
    # asyncio says so of every task whose exception nobody has asked for.
    log = (
        expect_log("^Task exception was never retrieved")
        if handler is interrupts
        else contextlib.nullcontext()
    )
    with nothing_left([]), log:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        gc.collect()


@pytest.mark.parametrize("loop_kind", [*LOOPS, *LOOP_TRANSPORTS])
def test_loops_that_are_known_have_descriptors_of_our_own_unless_told_otherwise(loop_kind: str) -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
            own = as_own_transport(ws._channel.transport)
            assert (own is None) is loop_kind.endswith("-transports")
            assert own is None or type(own) is _backend.SocketTransport

    run(main(), loop_kind)


@aio_test
async def test_sending_can_be_made_a_task_and_gathered_and_timed() -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        await asyncio.create_task(ws.send("task"))
        await asyncio.gather(*[ws.send(f"{number}") for number in range(100)])
        await asyncio.wait_for(ws.send("timed"), DEADLINE)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(ws.send("group"))
        expected = ["task", *map(str, range(100)), "timed", "group", "group", "group"]
        assert sorted([await ws.recv() for _ in expected], key=str) == sorted(expected)


@aio_test
async def test_two_readers_and_one_message() -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        first = asyncio.create_task(ws.recv(), name="the first one")
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting in the first one;"):
            await ws.recv()
        results = await asyncio.gather(ws.recv(), anext(aiter(ws)), return_exceptions=True)
        assert [type(result) for result in results] == [RuntimeError] * 2
        await ws.send("hello")
        assert await first == "hello"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.01)
        await ws.send("again")
        assert await asyncio.wait_for(ws.recv(), DEADLINE) == "again"


@aio_test
async def test_a_handler_sees_its_own_context_in_every_message() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    async def handler(ws: WebSocket) -> None:
        number = 0
        async for message in ws:
            assert who.get() == ("nobody" if number == 0 else f"{message!r} {number - 1}"), message
            who.set(f"{message!r} {number}")
            number += 1
            await ws.send(who.get())

    async with (
        serve(handler, "127.0.0.1", 0) as server,
        connect(uri_of(server)) as one,
        connect(uri_of(server)) as other,
    ):
        for number in range(5):
            for ws, message in ((one, "one"), (other, "other")):
                await ws.send(message)
                assert await ws.recv() == f"{message!r} {number}"


@aio_test
async def test_who_sends_without_a_pause_does_not_keep_others_waiting() -> None:
    # Each of them answers everything at once; somebody else must get an answer all the same.
    async with serve(echo, "127.0.0.1", 0, ping_interval=None) as server:
        with await open_raw(server) as flood:
            ending = False

            async def pour() -> None:
                while not ending:
                    await flood.send(flood.frame(1, b"flood") * 5000)

            async def drink() -> None:
                while await flood.receive():
                    pass

            pouring, drinking = asyncio.create_task(pour()), asyncio.create_task(drink())
            async with connect(uri_of(server), ping_interval=None) as ws:
                for number in range(20):
                    await ws.send(f"{number}")
                    assert await ws.recv() == f"{number}"
            ending = True
            await pouring
            await flood.send_close()
            await drinking


@aio_test
async def test_many_messages_of_all_sizes_come_back_in_order() -> None:
    sizes = [0, 1, 125, 126, 40_000, 70_000, 300_000] * 5 + [10] * 3000
    async with serve(echo, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:

        async def send() -> None:
            for number, size in enumerate(sizes):
                await ws.send(f"{number} ".ljust(size, "x") if number % 2 else b"%d " % number + bytes(size))

        sending = asyncio.create_task(send())
        for number, size in enumerate(sizes):
            message = await ws.recv()
            if number % 2:
                assert message == f"{number} ".ljust(size, "x")
            else:
                assert message == b"%d " % number + bytes(size)
        await sending


@aio_test
async def test_limits_that_no_c_integer_holds_are_none() -> None:
    huge = 1 << 70
    limits = Limits(
        receive_queue_messages=huge,
        receive_queue_bytes=huge,
        write_high_water=huge,
        write_low_water=huge,
        write_hard_cap=huge,
        max_pong_bytes=huge,
    )
    async with (
        serve(echo, "127.0.0.1", 0, limits=limits) as server,
        connect(uri_of(server), limits=limits) as ws,
    ):
        for message in ("a", b"b" * 100_000):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.drain()
