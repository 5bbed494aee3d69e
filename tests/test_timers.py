"""Named deadlines."""

from __future__ import annotations

from wsframe._timers import Timer, Timers


def test_nothing_runs_at_first() -> None:
    timers = Timers()
    assert timers.next() is None
    assert timers.due(1e9) == []
    assert not any(timers.running(timer) for timer in Timer)
    timers.stop(*Timer)
    assert timers.next() is None


def test_due_is_in_order_and_takes_nothing() -> None:
    timers = Timers()
    timers.start(Timer.CLOSE, 3.0, 100.0)
    timers.start(Timer.PING, 1.0, 100.0)
    timers.start_at(Timer.IDLE, 102.0)
    assert timers.next() == 101.0
    assert timers.due(100.9) == []
    assert timers.due(102.0) == [Timer.PING, Timer.IDLE]
    assert timers.due(999.0) == [Timer.PING, Timer.IDLE, Timer.CLOSE]
    assert all(timers.running(timer) for timer in (Timer.PING, Timer.IDLE, Timer.CLOSE))


def test_take() -> None:
    timers = Timers()
    timers.start(Timer.PING, 1.0, 100.0)
    assert not timers.take(Timer.PING, 100.9)
    assert timers.running(Timer.PING)
    assert timers.take(Timer.PING, 101.0)
    assert not timers.running(Timer.PING)
    assert not timers.take(Timer.PING, 101.0)
    assert timers.next() is None


def test_one_that_was_moved_or_stopped_is_not_taken() -> None:
    timers = Timers()
    timers.start(Timer.PING, 1.0, 100.0)
    timers.start(Timer.PONG, 1.0, 100.0)
    assert timers.due(101.0) == [Timer.PING, Timer.PONG]
    timers.start(Timer.PING, 5.0, 101.0)
    timers.stop(Timer.PONG)
    assert not timers.take(Timer.PING, 101.0)
    assert not timers.take(Timer.PONG, 101.0)
    assert timers.next() == 106.0


def test_without_a_time_it_runs_from_the_next_tick() -> None:
    timers = Timers()
    timers.start(Timer.CLOSE, 10.0)
    assert timers.running(Timer.CLOSE)
    assert timers.next() is None
    assert timers.due(1e9) == []
    timers.tick(50.0)
    assert timers.next() == 60.0
    timers.tick(55.0)
    assert timers.next() == 60.0


def test_a_restart_forgets_the_first_start() -> None:
    timers = Timers()
    timers.start(Timer.IDLE, 10.0)
    timers.start(Timer.IDLE, 3.0, 100.0)
    timers.tick(101.0)
    assert timers.next() == 103.0
    timers.start(Timer.IDLE, 1.0)
    assert timers.next() is None
    timers.start_at(Timer.IDLE, 7.0)
    timers.tick(200.0)
    assert timers.next() == 7.0
    assert timers.take(Timer.IDLE, 200.0)


def test_stop() -> None:
    timers = Timers()
    for timer in Timer:
        timers.start(timer, 1.0, 0.0)
    timers.start(Timer.OPEN, 1.0)
    timers.stop(Timer.OPEN, Timer.CLOSE)
    timers.tick(0.0)
    assert set(timers.due(1.0)) == set(Timer) - {Timer.OPEN, Timer.CLOSE}
    timers.start(Timer.OPEN, 1.0)
    timers.stop_all()
    timers.tick(0.0)
    assert timers.next() is None
    assert not timers.running(Timer.OPEN)
