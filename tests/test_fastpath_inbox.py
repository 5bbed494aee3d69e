"""The queue that a task waits at, and is woken from at once: every way to wait, to be woken and to give up."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import random
import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from aiohelpers import LOOPS, aio_test, loop_factory
from wsframe import Message, Opcode, _backend

T = TypeVar("T")


def text(*contents: str) -> list[Message]:
    return [Message(content, Opcode.TEXT) for content in contents]


class Over(Exception):
    """Nothing comes any more."""


class Ended:
    """What an inbox asks when nothing comes any more."""

    def why_over(self, iterating: bool) -> BaseException:
        return StopAsyncIteration() if iterating else Over()

    def has_room(self) -> None:
        pass


class Open:
    """What it asks before."""

    def __init__(self, room: Callable[[], object]) -> None:
        self.has_room = room

    def why_over(self, iterating: bool) -> None:
        return None


def new_inbox(
    max_items: int = 16,
    max_bytes: int = 1 << 20,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    room: Callable[[], object] = lambda: None,
) -> Any:
    loop = loop or asyncio.get_running_loop()
    return _backend.Inbox(
        max_items, max_bytes, loop, asyncio.current_task, asyncio.CancelledError, Open(room)
    )


def reader(inbox: Any, iterating: bool = False) -> Any:
    return _backend.Receive(inbox, iterating)


async def receive(inbox: Any) -> Any:
    return await reader(inbox)


async def receive_all(inbox: Any, into: list[Any]) -> None:
    async for data in reader(inbox, True):
        into.append(data)  # noqa: PERF401 - one after the other


async def waiting(inbox: Any, name: str | None = None) -> asyncio.Task[Any]:
    """A task that waits there."""
    task: asyncio.Task[Any] = asyncio.create_task(receive(inbox), name=name)
    await asyncio.sleep(0)
    assert inbox.reader == task
    return task


async def outside(function: Callable[[], T]) -> T:
    """What a function returns that is called where no task is running."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        assert asyncio.current_task() is None
        try:
            future.set_result(function())
        except Exception as exc:
            future.set_exception(exc)

    loop.call_soon(call)
    return await future


# What is in it.


@aio_test
async def test_messages_come_out_in_order() -> None:
    inbox = new_inbox()
    assert inbox.take(text("a", "b")) is False
    inbox.put(*text("c"))
    assert len(inbox) == 3
    assert [await receive(inbox) for _ in range(3)] == ["a", "b", "c"]
    # What it counts is from when on a sender has sent without receiving.
    assert [len(inbox), inbox.turns] == [0, 3]


@pytest.mark.parametrize(("max_items", "max_bytes"), [(4, 1 << 20), (1 << 20, 40)])
@aio_test
async def test_it_is_full_at_its_bound_and_has_room_when_it_is_half_empty(
    max_items: int, max_bytes: int
) -> None:
    rooms: list[int] = []
    inbox = new_inbox(max_items, max_bytes, room=lambda: rooms.append(len(inbox)))
    assert inbox.take(text(*["x" * 10] * 3)) is False
    assert inbox.full is False
    assert inbox.take(text("x" * 10)) is True
    # What comes all the same is not refused.
    assert inbox.take(text("x" * 10)) is True
    for left in (4, 3):
        await receive(inbox)
        assert len(inbox) == left
        assert inbox.full is True
    assert rooms == []
    await receive(inbox)
    assert inbox.full is False
    assert rooms == [2]
    await receive(inbox)
    await receive(inbox)
    assert rooms == [2]


@aio_test
async def test_there_is_no_news_of_room_once_it_is_closed() -> None:
    inbox = new_inbox(1, room=lambda: pytest.fail("it is closed"))
    assert inbox.take(text("x"))
    inbox.close(Ended())
    assert await receive(inbox) == "x"
    assert not inbox.full


# Being woken.


@aio_test
async def test_a_task_goes_on_at_once_where_no_task_is_running() -> None:
    inbox = new_inbox()
    got: list[str] = []
    task = asyncio.create_task(receive_all(inbox, got))
    await asyncio.sleep(0)

    def arrive() -> None:
        assert inbox.take(text("a", "b")) is False
        # Nobody had to wait for another turn.
        assert got == ["a", "b"]
        assert len(inbox) == 0
        inbox.take(text("c"))
        assert got == ["a", "b", "c"]

    await outside(arrive)
    # Three messages, and as many times that there was none.
    assert inbox.turns == 6
    inbox.close(Ended())
    inbox.wake_soon()
    assert not task.done()
    await task


@aio_test
async def test_a_task_goes_on_in_the_next_turn_where_one_is_running() -> None:
    inbox = new_inbox()
    task = await waiting(inbox)
    inbox.take(text("a"))
    inbox.take(text("b"))
    assert len(inbox) == 2
    assert not task.done()
    await asyncio.sleep(0)
    assert await task == "a"
    assert await receive(inbox) == "b"


@aio_test
async def test_being_woken_for_nothing_changes_nothing() -> None:
    inbox = new_inbox()
    inbox.wake()
    inbox.wake_soon()
    task = await waiting(inbox)
    await outside(inbox.wake)
    await outside(inbox.wake_soon)
    inbox.wake()
    inbox.wake_soon()
    await asyncio.sleep(0)
    assert not task.done()
    assert inbox.reader is task
    await outside(lambda: inbox.take(text("a")))
    assert task.done()
    assert await task == "a"
    assert inbox.reader is None


@aio_test
async def test_a_task_sees_its_own_context_whoever_wakes_it() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    inbox = new_inbox()
    seen: list[str] = []

    async def read() -> None:
        who.set("reader")
        for _ in range(3):
            await receive(inbox)
            seen.append(who.get())

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    who.set("writer")
    await outside(lambda: inbox.take(text("a")))
    inbox.take(text("b"))
    await asyncio.sleep(0)
    inbox.take(text("c"))
    await task
    assert seen == ["reader"] * 3
    assert who.get() == "writer"


@aio_test
async def test_while_it_goes_on_it_is_the_current_task() -> None:
    inbox = new_inbox()

    async def read() -> object:
        await receive(inbox)
        return asyncio.current_task()

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    await outside(lambda: inbox.take(text("a")))
    assert task.done()
    assert await task is task


@aio_test
async def test_one_task_may_wake_another_from_within_its_being_woken() -> None:
    first, second = new_inbox(), new_inbox()

    async def pass_on() -> None:
        second.take(text(await receive(first)))

    task = asyncio.create_task(pass_on())
    last = await waiting(second)
    await outside(lambda: first.take(text("a")))
    await task
    assert await last == "a"


@aio_test
async def test_what_is_over_is_told_after_what_came_before() -> None:
    inbox = new_inbox()
    inbox.take(text("a"))
    inbox.close(Ended())
    assert await receive(inbox) == "a"
    for _ in range(2):
        with pytest.raises(Over):
            await receive(inbox)
    got: list[str] = []
    await receive_all(inbox, got)
    assert got == []
    with pytest.raises(StopAsyncIteration):
        await anext(reader(inbox, True))
    assert await anext(reader(inbox, True), "nothing") == "nothing"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin eagerly since Python 3.12")
@aio_test
async def test_a_task_that_began_within_another_waits_and_is_woken_like_others() -> None:
    inbox = new_inbox()
    # Python 3.11 does not know the argument.
    task_class: Any = asyncio.Task
    eager: Any = functools.partial(task_class, loop=asyncio.get_running_loop(), eager_start=True)
    task = eager(receive(inbox))
    assert inbox.reader is task
    await outside(lambda: inbox.take(text("a")))
    assert task.done()
    assert await task == "a"
    task = eager(receive(inbox))
    inbox.take(text("b"))
    assert not task.done()
    assert await task == "b"
    # There is nothing to wait for.
    inbox.take(text("c"))
    task = eager(receive(inbox))
    assert task.done()
    assert await task == "c"


# Giving up.


@aio_test
async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    inbox = new_inbox()
    task = await waiting(inbox)
    assert task.cancel("enough")
    inbox.take(text("a"))
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert inbox.reader is None
    assert await receive(inbox) == "a"


@aio_test
async def test_a_reader_that_is_cancelled_when_it_was_woken_loses_nothing() -> None:
    inbox = new_inbox()
    task = await waiting(inbox)
    inbox.take(text("a"))
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await receive(inbox) == "a"


@aio_test
async def test_cancelling_twice_is_cancelling() -> None:
    inbox = new_inbox()
    task = await waiting(inbox)
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await waiting(inbox)
    inbox.take(text("a"))
    assert await again == "a"


@aio_test
async def test_a_task_that_will_be_cancelled_before_it_waits() -> None:
    inbox = new_inbox()

    async def read() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await receive(inbox)

    task = asyncio.create_task(read())
    with pytest.raises(asyncio.CancelledError):
        await task
    inbox.take(text("a"))
    assert await receive(inbox) == "a"


@aio_test
async def test_a_task_that_does_not_mind_being_cancelled_can_wait_again() -> None:
    inbox = new_inbox()

    async def read() -> Any:
        with contextlib.suppress(asyncio.CancelledError):
            await receive(inbox)
        return await receive(inbox)

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert inbox.reader is task
    await outside(lambda: inbox.take(text("a")))
    assert await task == "a"


@aio_test
async def test_deadlines_lose_nothing() -> None:
    inbox = new_inbox()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(receive(inbox), 0.001)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader(inbox), 0.001)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await receive(inbox)
    inbox.take(text("a", "b", "c"))
    assert await asyncio.wait_for(receive(inbox), 60) == "a"
    assert await asyncio.wait_for(anext(reader(inbox)), 60) == "b"
    async with asyncio.timeout(60):
        assert await receive(inbox) == "c"


@aio_test
async def test_a_group_cancels_its_reader() -> None:
    inbox = new_inbox()

    async def fail() -> None:
        raise ValueError("a bug")

    async def group_of_both() -> None:
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(receive(inbox)))
            await asyncio.sleep(0)
            group.create_task(fail())

    tasks: list[asyncio.Task[Any]] = []
    with pytest.raises(ExceptionGroup):
        await group_of_both()
    (task,) = tasks
    assert task.cancelled()
    assert inbox.reader is None
    inbox.take(text("a"))
    assert await receive(inbox) == "a"


@pytest.mark.parametrize("how", ["close", "throw"])
@aio_test
async def test_a_coroutine_that_is_ended_while_it_waits_leaves_the_place(how: str) -> None:
    inbox = new_inbox()
    coroutine = receive(inbox)
    assert coroutine.send(None) is inbox
    if how == "close":
        coroutine.close()
    else:
        with pytest.raises(ValueError, match="a bug"):
            coroutine.throw(ValueError("a bug"))
    inbox.take(text("a"))
    assert await receive(inbox) == "a"


@aio_test
async def test_it_holds_on_to_no_task_that_has_ended() -> None:
    inbox = new_inbox()
    for cancelled in (False, True):
        task = await waiting(inbox)
        if cancelled:
            task.cancel()
            await asyncio.wait([task])
        else:
            await outside(lambda: inbox.take(text("a")))
        gone = weakref.ref(task)
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None


# One at a time.


@aio_test
async def test_a_second_reader_is_refused_and_the_first_goes_on() -> None:
    inbox = new_inbox()
    task = await waiting(inbox, "the first one")
    for second in (receive(inbox), anext(reader(inbox, True))):
        with pytest.raises(RuntimeError, match="already waiting in the first one;"):
            await second
    inbox.take(text("a"))
    assert await task == "a"
    inbox.take(text("b"))
    assert await receive(inbox) == "b"


@aio_test
async def test_a_second_reader_of_the_same_iterator_is_refused_and_the_first_goes_on() -> None:
    inbox = new_inbox()
    iterator = reader(inbox, True)

    async def following() -> Any:
        return await anext(iterator)

    task = asyncio.create_task(following(), name="the first one")
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already waiting in the first one;"):
        await following()
    inbox.take(text("a"))
    assert await task == "a"
    inbox.take(text("b"))
    assert await following() == "b"


# What ends the program.


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("loop_kind", LOOPS)
def test_what_ends_the_program_comes_out_of_the_loop(loop_kind: str, error: type[BaseException]) -> None:
    async def read(inbox: Any) -> None:
        await receive(inbox)
        raise error

    loop = loop_factory(loop_kind)()
    try:
        inbox = new_inbox(loop=loop)
        task = loop.create_task(read(inbox))
        # When it waits.
        loop.call_soon(lambda: loop.call_soon(inbox.take, text("a")))
        loop.call_later(10, loop.stop)
        with pytest.raises(error):
            loop.run_forever()
        assert isinstance(task.exception(), error)
        # Nobody waits any more.
        inbox.take(text("b"))
        assert loop.run_until_complete(receive(inbox)) == "b"
    finally:
        loop.close()


# Whatever happens.


@pytest.mark.parametrize("seed", range(20))
@aio_test
async def test_whatever_happens_nothing_is_lost_or_comes_twice_or_early(seed: int) -> None:
    chance = random.Random(seed)
    inbox = new_inbox(5)
    sent = 0
    got: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def read() -> None:
        for _ in range(chance.randrange(1, 5)):
            try:
                if chance.random() < 0.2:
                    async with asyncio.timeout(0):
                        got.append(await receive(inbox))
                else:
                    got.append(await receive(inbox))
            except (RuntimeError, TimeoutError):
                continue
            except asyncio.CancelledError:
                if chance.random() < 0.5:
                    raise

    for _ in range(200):
        match chance.randrange(6):
            case 0 | 1:
                messages = text(*map(str, range(sent, sent + chance.randrange(4))))
                sent += len(messages)
                if chance.random() < 0.5:
                    await outside(lambda messages=messages: inbox.take(messages))  # type: ignore[misc]
                else:
                    inbox.take(messages)
            case 2 | 3:
                tasks.append(asyncio.create_task(read()))
            case 4 if tasks:
                chance.choice(tasks).cancel()
            case _:
                await asyncio.sleep(0)
    for task in tasks:
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
    assert inbox.reader is None
    while len(inbox):
        got.append(await receive(inbox))
    assert got == [str(number) for number in range(sent)]
    assert not inbox.full


# A coroutine that is done.


@aio_test
async def test_what_is_finished_can_be_awaited_in_every_way() -> None:
    finished: Any = _backend.Finished()

    async def wait() -> Any:
        return await finished

    for _ in range(2):
        assert await finished is None
        assert await asyncio.create_task(finished) is None
        assert await asyncio.ensure_future(finished) is None
        assert list(await asyncio.gather(finished, finished, wait())) == [None] * 3
        assert await asyncio.wait_for(finished, 10) is None
        assert await asyncio.wait_for(wait(), 10) is None
        assert await asyncio.shield(finished) is None
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(finished)
            group.create_task(finished)
        task = asyncio.create_task(finished)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.iscoroutine(finished)
    finished.close()
    with pytest.raises(StopIteration) as stopped:
        finished.send(None)
    assert stopped.value.value is None
    throw: Any = finished.throw
    for arguments in [(ValueError("a bug"),), (ValueError, ValueError("a bug")), (ValueError, None, None)]:
        with pytest.raises(ValueError):
            throw(*arguments)


def test_what_is_finished_can_be_all_that_a_loop_runs() -> None:
    finished: Any = _backend.Finished()
    assert asyncio.run(finished) is None
