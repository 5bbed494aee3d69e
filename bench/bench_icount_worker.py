"""Fixed work to count instructions of: `bench_icount_worker.py CODEC CASE TIMES`, under callgrind.

Nothing in here depends on a clock, on chance or on how fast the machine is.
"""

from __future__ import annotations

import gc
import sys
from itertools import repeat
from pathlib import Path

# Ours is the checkout that this file lies in, whatever else may be installed.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from bench_cases import CASES, stream
from bench_ours import NOW, Wsframe
from bench_wire import TEXT, frame
from bench_work import Work

#: How often the work is done before the counted part, so that the interpreter has specialized it.
WARM = 30
TURN = "turn/text/125"


def ready(codec: str, name: str) -> Work:
    """Make a case of `bench codec` ready, or the one that only this program has."""
    contestant = Wsframe(codec)
    if name == TURN:
        return echo_turn()
    case = CASES[name]
    return contestant.prepare(case, stream(case) if case.group == "parse" else None)


def echo_turn() -> Work:
    """What a server's core does for one message: it comes in a chunk of its own, and goes back."""
    from wsframe import Connection, Message, Role

    connection = Connection(Role.SERVER)
    message = CASES["parse/text/125"].message
    chunk = frame(TEXT, message, b"abcd")

    def run(times: int) -> int:
        for _ in repeat(None, times):
            for event in connection.receive_data(chunk, NOW):
                assert isinstance(event, Message)
                connection.send_text(event.data)
            connection.data_to_send()
        return times

    def check() -> list[bytes]:
        (event,) = connection.receive_data(chunk, NOW)
        assert isinstance(event, Message)
        connection.send_text(event.data)
        return [b"".join(connection.data_to_send())]

    return Work(run, check)


def main() -> None:
    """Do the work so many times, and print how many messages that were."""
    codec, case, times = sys.argv[1:]
    work = ready(codec, case)
    work.check()
    gc.disable()
    work.run(WARM)
    print(work.run(int(times)))


if __name__ == "__main__":
    main()
