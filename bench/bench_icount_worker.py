"""Fixed work to count instructions of, under callgrind.

    bench_icount_worker.py CODEC                what the counts depend on, as JSON
    bench_icount_worker.py CODEC CASE TIMES     do the work, and print how many messages that were

Nothing in here depends on a clock, on chance or on how fast the machine is.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

# Ours is the checkout that this file lies in, whatever else may be installed.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from bench_cases import CASES, CHUNK, stream
from bench_ours import NOW, Wsframe
from bench_wire import TEXT, cut, frame
from bench_work import Work

#: How often the work is done before the counted part, so that the interpreter has specialized it.
WARM = 30
#: A server's frames in one pass over them.
UNMASKED_MESSAGES = 2000


def echo_turn(*, client: bool) -> Work:
    """What one side's core does for one message: it comes in a chunk of its own, and goes back."""
    from wsframe import Connection, Message, Role

    connection = Connection(Role.CLIENT if client else Role.SERVER)
    chunk = frame(TEXT, CASES["parse/text/125"].message, None if client else b"abcd")

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


def parse_unmasked() -> Work:
    """What a client's core does with a server's frames: the counterpart of `parse/text/125`, which has a client's."""
    from wsframe import Connection, Role

    connection = Connection(Role.CLIENT)
    payload = CASES["parse/text/125"].message
    chunks = cut(frame(TEXT, payload, None) * UNMASKED_MESSAGES, CHUNK)

    receive = connection.receive_data

    def run(times: int) -> int:
        count = 0
        for _ in repeat(None, times):
            for chunk in chunks:
                events: list[Any] = receive(chunk, NOW)
                while events:
                    for event in events:
                        _ = event.data
                    count += len(events)
                    events = receive(b"", NOW) if connection.has_more else []
        return count

    def check() -> list[Any]:
        found: list[Any] = []
        for chunk in chunks:
            found += receive(chunk, NOW)
            while connection.has_more:
                found += receive(b"", NOW)
        return [event.data for event in found]

    return Work(run, check, UNMASKED_MESSAGES)


#: What `bench codec` has not.
OWN: dict[str, Callable[[], Work]] = {
    "parse/client/125": parse_unmasked,
    "turn/server/125": lambda: echo_turn(client=False),
    "turn/client/125": lambda: echo_turn(client=True),
}


def ready(codec: str, name: str) -> Work:
    """Make a case of `bench codec` ready, or one that only this program has."""
    contestant = Wsframe(codec)
    if name in OWN:
        return OWN[name]()
    case = CASES[name]
    return contestant.prepare(case, stream(case) if case.group == "parse" else None)


def described(codec: str) -> dict[str, str]:
    """Return everything that the counts depend on besides our code."""
    about = Wsframe(codec).describe()
    return {
        "codec": codec,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python compiler": platform.python_compiler(),
        "compiler": about.get("compiler", ""),
        "cython": about.get("cython", ""),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
    }


def main() -> None:
    """Describe, or do the work so many times between two calls of `getpgrp`, which nobody else calls."""
    codec, *arguments = sys.argv[1:]
    if not arguments:
        print(json.dumps(described(codec)))
        return
    case, times = arguments
    work = ready(codec, case)
    work.check()
    gc.disable()
    work.run(WARM)
    os.getpgrp()
    messages = work.run(int(times))
    os.getpgrp()
    print(messages)


if __name__ == "__main__":
    main()
