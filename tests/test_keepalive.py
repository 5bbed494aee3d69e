"""Time: keepalive, the idle timeout, and that no deadline is missed or invented. Time is a number."""

from __future__ import annotations

import pytest

import framebuilder as fb
from pair import Pair, look, lose, peer_close, peer_frame, sent_frames
from wsframe import Cause, Connection, Limits, Message, PongReceived, Role, State, Timeouts, Transport

both_roles = pytest.mark.parametrize("role", Role)


def step(connection: Connection, now: float, unsent: int = 0) -> list[tuple[int, bytes]]:
    """A deadline has come: what an adapter does then."""
    assert connection.handle_timeout(now) == []
    frames = sent_frames(connection)
    connection.unsent(unsent)
    connection.next_timeout(now)
    return frames


def due(connection: Connection, now: float) -> float | None:
    """The next deadline that means anything: those that only move are passed."""
    while (deadline := connection.next_timeout(now)) is not None and deadline <= now:
        connection.handle_timeout(now)
        if connection.transport is not Transport.OPEN:
            break
    return deadline


# Interval and timeout.


@both_roles
def test_a_ping_after_so_much_silence_and_a_verdict_after_so_much_more(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=7))
    assert connection.next_timeout(100.0) == 120.0
    assert step(connection, 119.9) == []
    ((opcode, payload),) = step(connection, 120.0)
    assert (opcode, len(payload)) == (fb.PING, 4)
    assert connection.next_timeout(120.0) == 127.0
    # At first the adapter only gets the chance to read once more.
    assert step(connection, 127.0) == []
    assert look(connection) == (State.OPEN, Transport.OPEN)
    assert connection.next_timeout(127.0) == pytest.approx(127.1)
    assert step(connection, 127.2) == [(fb.CLOSE, fb.close_payload(1011, b"keepalive ping timeout"))]
    assert look(connection) == (State.CLOSING, Transport.ABORT)
    assert connection.next_timeout(127.2) is None
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_an_answered_ping_has_a_round_trip_time(role: Role) -> None:
    connection = Connection(role)
    connection.next_timeout(0.0)
    ((_, payload),) = step(connection, 20.0)
    assert connection.receive_data(peer_frame(role, fb.PONG, payload), 20.25) == [PongReceived(payload, 0.25)]
    assert connection.latency == 0.25
    assert step(connection, 40.0) == []
    ((_, again),) = step(connection, 40.25)
    assert again != payload


@pytest.mark.parametrize("life", ["a byte", "a frame", "the pong"])
@both_roles
def test_any_byte_is_life(role: Role, life: str) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=5))
    connection.next_timeout(0.0)
    ((_, payload),) = step(connection, 20.0)
    data = {
        "a byte": peer_frame(role, fb.TEXT, b"x" * 100)[:1],
        "a frame": peer_frame(role, fb.PING),
        "the pong": peer_frame(role, fb.PONG, payload),
    }[life]
    connection.receive_data(data, 24.9)
    connection.data_to_send()
    for moment in (25.0, 25.1, 30.0, 40.0, 44.8):
        assert step(connection, moment) == []
        assert connection.state is State.OPEN
    assert [opcode for opcode, _ in step(connection, 44.9)] == [fb.PING]
    step(connection, 49.9)
    step(connection, 50.0)
    assert look(connection) == (State.CLOSING, Transport.ABORT)


@both_roles
def test_no_ping_while_bytes_come(role: Role) -> None:
    connection = Connection(role)
    now = 0.0
    connection.next_timeout(now)
    for _ in range(100):
        now += 19.0
        assert connection.receive_data(peer_frame(role, fb.TEXT, b"x"), now) == [Message("x", 1)]
        assert step(connection, now) == []


@both_roles
def test_without_a_timeout_pings_go_on_and_nobody_is_lost(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=10, ping_timeout=None))
    connection.next_timeout(0.0)
    for turn in range(1, 200):
        assert [opcode for opcode, _ in step(connection, turn * 10.0)] == [fb.PING]
    assert connection.state is State.OPEN


@both_roles
def test_without_a_timeout_pings_that_cannot_leave_do_not_pile_up(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=10, ping_timeout=None, write=None))
    connection.next_timeout(0.0)
    pings = [len(step(connection, turn * 10.0, unsent=1)) for turn in range(1, 200)]
    assert sum(pings) == 1
    connection.unsent(0)
    connection.next_timeout(2000.0)
    assert [opcode for opcode, _ in step(connection, 2010.0)] == [fb.PING]


@both_roles
def test_without_an_interval_there_is_no_keepalive(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=None, ping_timeout=5))
    assert connection.next_timeout(0.0) is None
    connection.reading_paused(True)
    connection.reading_paused(False)
    assert connection.next_timeout(1e5) is None
    assert step(connection, 1e6) == []
    connection.ping(b"mine", 1e6)
    connection.data_to_send()
    assert connection.next_timeout(1e6) is None


@pytest.mark.parametrize(("interval", "timeout"), [(20, 20), (5, 20), (20, 5), (0.5, 3), (7, 7)])
@both_roles
def test_a_vanished_peer_is_noticed_in_time(role: Role, interval: float, timeout: float) -> None:
    timeouts = Timeouts(ping_interval=interval, ping_timeout=timeout)
    pair = Pair(client_timeouts=timeouts, server_timeouts=timeouts)
    side = pair.client if role is Role.CLIENT else pair.server
    pair.pass_time(50, settle=True)
    assert not side.gone
    pair.client.endpoint.send_text("last")
    pair.server.endpoint.send_text("last")
    pair.settle()
    pair.cut()
    pair.pass_time(interval + timeout - 0.02)
    assert not side.gone
    pair.pass_time(0.13)
    assert side.ending.cause is Cause.PING_TIMEOUT
    assert side.ending.last_received_age == pytest.approx(interval + timeout + 0.1)


# The timeout runs from when the ping left.


@both_roles
def test_the_timeout_runs_from_when_the_ping_left(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=10, write=None))
    connection.send_bytes(b"x" * 1000)
    connection.data_to_send()
    connection.unsent(900)
    connection.next_timeout(0.0)
    assert [opcode for opcode, _ in step(connection, 20.0, unsent=800)] == [fb.PING]
    # Slow, but not stuck: some of what is in front of the ping leaves every now and then.
    for moment, left in ((29.0, 500), (38.0, 499), (47.0, 3)):
        connection.unsent(left)
        assert connection.next_timeout(moment) in (moment + 10, 40.0, 60.0)
        assert step(connection, moment + 0.5, unsent=left) == []
    connection.unsent(0)
    connection.next_timeout(50.0)
    assert step(connection, 59.9) == []
    assert step(connection, 60.0) == []
    step(connection, 60.1)
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_a_ping_that_cannot_leave_is_a_slow_peer(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=10))
    connection.send_bytes(b"x" * 1000)
    connection.data_to_send()
    connection.unsent(900)
    connection.next_timeout(0.0)
    step(connection, 20.0, unsent=907)
    connection.send_text("behind it")
    connection.handle_timeout(30.0)
    assert connection.state is State.OPEN
    connection.unsent(907)
    assert connection.next_timeout(30.0) == pytest.approx(30.1)
    connection.handle_timeout(30.1)
    # What was not begun is dropped, 1013 is tried, and all of it ends with the close timeout.
    assert look(connection) == (State.CLOSING, Transport.SHUTDOWN_WRITE)
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(1013, b"too slow to receive"))]
    connection.unsent(900)
    assert connection.next_timeout(30.1) == pytest.approx(40.1)
    connection.handle_timeout(40.2)
    assert connection.transport is Transport.ABORT
    ending = lose(connection)
    assert (ending.cause, ending.clean, ending.phase) == (Cause.SLOW_PEER, False, State.OPEN)


@both_roles
def test_an_adapter_that_reports_late_what_has_left(role: Role) -> None:
    """It may learn how much has left only when it is asked, so the verdict waits for that."""
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=10))
    connection.next_timeout(0.0)
    step(connection, 20.0, unsent=6)
    connection.handle_timeout(30.0)
    connection.unsent(0)
    connection.next_timeout(30.0)
    assert step(connection, 39.9) == []
    assert connection.state is State.OPEN
    step(connection, 40.0)
    step(connection, 40.1)
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_a_stuck_ping_is_watched_again_when_the_peer_has_spoken(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=10))
    connection.next_timeout(0.0)
    step(connection, 20.0, unsent=6)
    connection.receive_data(peer_frame(role, fb.PONG), 25.0)
    assert connection.data_to_send() == []
    now = 25.0
    while now < 56.0 and connection.state is State.OPEN:
        now += 0.05
        assert fb.PING not in [opcode for opcode, _ in step(connection, now, unsent=6)]
    # Silent since 25, asked again at 45, lost at 55.1.
    assert now == pytest.approx(55.1, abs=0.2)
    assert lose(connection).cause is Cause.SLOW_PEER


# A blocked event loop.


@pytest.mark.parametrize(("interval", "timeout"), [(20, 20), (5, 20), (20, 5)])
@pytest.mark.parametrize("late", [0.05, 0.2, 7.0, 1000.0])
@both_roles
def test_a_blocked_loop_never_kills_a_live_peer(
    role: Role, interval: float, timeout: float, late: float
) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=interval, ping_timeout=timeout))
    now = 0.0
    connection.next_timeout(now)
    for _ in range(20):
        deadline = connection.next_timeout(now)
        assert deadline is not None
        # The loop was blocked, and so the timer fires far too late, and before what waits in the socket is read.
        now = max(now, deadline) + late
        for opcode, payload in step(connection, now):
            assert opcode == fb.PING
            waiting = peer_frame(role, fb.PONG, payload)
            now += late
            connection.handle_timeout(now)
            connection.receive_data(waiting, now + 0.05)
            now += 0.05
        assert look(connection) == (State.OPEN, Transport.OPEN)


@both_roles
def test_a_new_ping_gets_its_own_time_when_both_deadlines_are_late(role: Role) -> None:
    """Interval and timeout are equal by default, so the deadlines of one ping and the next meet."""
    connection = Connection(role)
    connection.next_timeout(0.0)
    ((_, payload),) = step(connection, 20.0)
    connection.receive_data(peer_frame(role, fb.PONG, payload), 20.05)
    ((_, payload),) = step(connection, 40.2)
    # A slow but live peer: its pong takes longer than the grace.
    for moment in (40.3, 40.35, 41.0):
        step(connection, moment)
        assert connection.state is State.OPEN
    connection.receive_data(peer_frame(role, fb.PONG, payload), 41.5)
    assert connection.latency == pytest.approx(1.3)


# Paused reading.


@both_roles
def test_nobody_is_lost_while_reading_is_paused(role: Role) -> None:
    connection = Connection(role)
    connection.receive_data(peer_frame(role, fb.PONG), 100.0)
    connection.reading_paused(True)
    assert connection.next_timeout(100.0) is None
    assert step(connection, 1e5) == []
    connection.reading_paused(True)
    connection.reading_paused(False)
    # Afresh, with a ping at once.
    assert due(connection, 1e5) == 1e5 + 20
    ((opcode, payload),) = sent_frames(connection)
    assert opcode == fb.PING
    connection.unsent(0)
    assert connection.next_timeout(1e5) == 1e5 + 20
    connection.receive_data(peer_frame(role, fb.PONG, payload), 1e5 + 1)
    assert connection.latency == 1
    step(connection, 1e5 + 20)
    assert connection.state is State.OPEN


@both_roles
def test_a_peer_that_died_meanwhile_is_noticed_after_resuming(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=5))
    connection.reading_paused(True)
    step(connection, 100.0)
    connection.reading_paused(False)
    connection.next_timeout(101.0)
    assert [opcode for opcode, _ in step(connection, 101.0)] == [fb.PING]
    step(connection, 106.0)
    step(connection, 106.1)
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_short_pauses_make_no_pings(role: Role) -> None:
    """Flow control may pause after every few messages."""
    connection = Connection(role)
    now = 0.0
    connection.next_timeout(now)
    for _ in range(500):
        now += 0.5
        connection.receive_data(peer_frame(role, fb.TEXT, b"x"), now)
        connection.reading_paused(True)
        connection.next_timeout(now + 0.1)
        connection.reading_paused(False)
        assert step(connection, now + 0.2) == []
    assert [opcode for opcode, _ in step(connection, now + 20)] == [fb.PING]


@pytest.mark.parametrize("when", ["ping sent", "grace", "ping stuck"])
@both_roles
def test_pausing_suspends_a_running_verdict(role: Role, when: str) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=5))
    connection.next_timeout(0.0)
    step(connection, 20.0, unsent=6 if when == "ping stuck" else 0)
    if when == "grace":
        step(connection, 25.0)
    connection.reading_paused(True)
    connection.unsent(0)
    step(connection, 26.0)
    step(connection, 999.0)
    assert look(connection) == (State.OPEN, Transport.OPEN)
    assert connection.next_timeout(999.0) is None
    connection.reading_paused(False)
    connection.next_timeout(1000.0)
    assert [opcode for opcode, _ in step(connection, 1000.0)] == [fb.PING]
    assert step(connection, 1004.9) == []
    assert connection.state is State.OPEN


# Idle.


@both_roles
def test_the_idle_timeout_closes_in_order(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=None, idle=30))
    assert connection.next_timeout(100.0) == 130.0
    assert step(connection, 129.9) == []
    assert step(connection, 130.0) == [(fb.CLOSE, fb.close_payload(1001, b"idle timeout"))]
    assert look(connection) == (State.CLOSING, Transport.OPEN)
    assert connection.next_timeout(130.0) == 140.0
    connection.receive_data(peer_close(role, 1001), 131.0)
    ending = lose(connection)
    assert (ending.cause, ending.clean, ending.code) == (Cause.IDLE_TIMEOUT, True, 1001)
    assert ending.phase is State.OPEN


@both_roles
def test_messages_in_both_directions_count_and_control_frames_do_not(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=None, idle=30))
    connection.next_timeout(0.0)
    connection.receive_data(peer_frame(role, fb.TEXT, b"x"), 20.0)
    assert step(connection, 30.0) == []
    assert connection.next_timeout(30.0) == 50.0
    connection.send_text("y")
    connection.next_timeout(40.0)
    step(connection, 50.0)
    assert connection.next_timeout(50.0) == 70.0
    connection.send_fragment("z", final=False)
    connection.next_timeout(60.0)
    connection.ping()
    connection.pong()
    connection.receive_data(peer_frame(role, fb.PING) + peer_frame(role, fb.PONG), 65.0)
    connection.next_timeout(65.0)
    step(connection, 70.0)
    assert connection.state is State.OPEN
    assert step(connection, 89.9) == []
    assert [opcode for opcode, _ in step(connection, 90.0)] == [fb.CLOSE]


@both_roles
def test_when_a_message_came_is_known_without_a_look_at_the_timers(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=None, idle=30))
    connection.next_timeout(0.0)
    connection.receive_data(peer_frame(role, fb.TEXT, b"x"), 20.0)
    connection.handle_timeout(50.0)
    assert connection.state is State.CLOSING


@both_roles
def test_idle_without_an_answer(role: Role) -> None:
    timeouts = Timeouts(ping_interval=None, idle=3)
    pair = Pair(client_timeouts=timeouts, server_timeouts=timeouts)
    side = pair.client if role is Role.CLIENT else pair.server
    pair.cut()
    pair.pass_time(12.9)
    assert not side.gone
    pair.pass_time(0.2)
    assert (side.ending.cause, side.ending.clean) == (Cause.IDLE_TIMEOUT, False)


# No deadline is missed or invented.


@both_roles
def test_spurious_calls_change_nothing(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(idle=1000))
    deadline = connection.next_timeout(50.0)
    assert deadline == 70.0
    for moment in (50.0, 50.0, 60.0, 69.999):
        assert connection.handle_timeout(moment) == []
        assert connection.next_timeout(moment) == deadline
        assert connection.data_to_send() == []
        assert look(connection) == (State.OPEN, Transport.OPEN)


@both_roles
def test_a_connection_that_is_never_asked_for_its_timeout(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=20, ping_timeout=5, close=3))
    tick = 0
    while connection.transport is not Transport.ABORT:
        tick += 1
        connection.handle_timeout(float(tick))
        connection.data_to_send()
        assert tick < 40
    # Started at the first tick; pinged at 21; out at the next but one; 5 s; the grace takes a tick.
    assert tick in range(27, 30)
    closing = Connection(role, timeouts=Timeouts(close=3))
    closing.close()
    for tick in range(4):
        assert closing.transport is Transport.OPEN
        closing.handle_timeout(float(tick))
    assert look(closing) == (State.CLOSING, Transport.ABORT)


@both_roles
def test_a_close_that_came_with_a_time_counts_from_it(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=None, close=3, linger=1))
    connection.receive_data(b"\xff\xff", 5.0)
    connection.handle_timeout(8.0)
    assert connection.transport is Transport.ABORT


@both_roles
def test_a_late_call_meets_all_deadlines_at_once(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=5, ping_timeout=5, idle=5))
    connection.next_timeout(0.0)
    connection.handle_timeout(1e6)
    assert connection.state is State.CLOSING
    assert [opcode for opcode, _ in sent_frames(connection)] in ([fb.CLOSE], [fb.PING, fb.CLOSE])
    assert connection.next_timeout(1e6) == 1e6 + 10


@pytest.mark.parametrize("end", ["reset", "closed", "abort"])
@both_roles
def test_a_stuck_ping_leaves_no_timer_behind(role: Role, end: str) -> None:
    connection = Connection(role)
    connection.next_timeout(0.0)
    step(connection, 20.0, unsent=6)
    if end == "reset":
        connection.receive_error(OSError(), Cause.RESET)
    elif end == "abort":
        connection.abort()
    else:
        connection.transport_closed()
    connection.unsent(0)
    assert connection.next_timeout(21.0) is None
    assert connection.handle_timeout(22.0) == []
    assert connection.next_timeout(22.0) is None


@both_roles
def test_closing_has_only_its_own_deadlines(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=1, ping_timeout=1, idle=1, close=10))
    connection.next_timeout(0.0)
    connection.handle_timeout(0.9)
    connection.receive_data(peer_frame(role, fb.TEXT, b"x"), 0.9)
    connection.close()
    connection.data_to_send()
    assert connection.next_timeout(0.9) == 10.9
    connection.unsent(0)
    assert step(connection, 5.0) == []
    assert connection.next_timeout(5.0) == 10.9


@both_roles
def test_limits_do_not_matter_to_keepalive(role: Role) -> None:
    connection = Connection(role, limits=Limits(write_low_water=1, write_high_water=1, write_hard_cap=1))
    connection.send_bytes(b"xx")
    connection.next_timeout(0.0)
    connection.handle_timeout(20.0)
    assert [opcode for opcode, _ in sent_frames(connection)] == [fb.BINARY, fb.PING]
    assert connection.state is State.OPEN
