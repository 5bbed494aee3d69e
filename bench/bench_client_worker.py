"""One contestant of `bench client` in a process of its own: `bench_client_worker.py NAME [CORE]`.

How it is talked to stands in bench_answer.py.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

# Ours is the checkout that this file lies in, whatever else may be installed.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from bench_answer import Worker, answer
from bench_clients import ASYNCHRONOUS, BLOCKING, Client
from bench_contestants import CLIENT, Entry
from bench_errors import WrongError
from bench_work import Work

#: What to import of a package that is not called as it is installed.
MODULES = {"websocket-client": "websocket"}
#: Different messages that are compared before anything is measured.
CHECKED = 20


class ClientWorker(Worker):
    """A client, and the loop that it runs on."""

    def __init__(self, entry: Entry) -> None:
        # Some have a thread that reads.
        super().__init__(time.process_time_ns)
        self.entry = entry
        self.client: Client | None = None
        self.described = describe(entry)
        self.loop: asyncio.AbstractEventLoop | None = None
        if entry.loop == "uvloop":
            import uvloop

            self.loop = uvloop.new_event_loop()
        elif entry.loop is not None:
            self.loop = asyncio.new_event_loop()

    def describe(self) -> dict[str, str]:
        """Return what is loaded."""
        return self.described

    def ready(self, case: str, **arguments: Any) -> Work:
        """Connect, and compare what comes back with what was sent."""
        size, port = int(arguments["size"]), int(arguments["port"])
        client = self.client = self.connect(port)
        random = Random(case)
        for _ in range(CHECKED):
            message = "".join(random.choices("abcdefghijklmnopqrstuvwxyz ", k=size))
            received = client.trips(message, 1)
            if client.baseline:
                # What came last is the end of the frame, and without its header where it is longer than that.
                if not message.encode().endswith(received[-size:]):
                    raise WrongError("other bytes came back")
            elif received != message:
                raise WrongError("another message came back")

        def run(times: int) -> int:
            received = client.trips(message, times)
            if not client.baseline and received != message:
                raise WrongError("another message came back")
            return times

        return Work(run, list)

    def connect(self, port: int) -> Client:
        """Open a connection."""
        name = self.entry.name
        if self.loop is None:
            return BLOCKING[name](port)
        client = ASYNCHRONOUS[name.partition("/")[0]](self.loop)
        client.run(client.open(port))
        return client

    def forget(self) -> dict[str, Any]:
        """Close the connection."""
        client, self.client = self.client, None
        if client is not None:
            client.close()
        return super().forget()


def describe(entry: Entry) -> dict[str, str]:
    """Return what is loaded; raise what says that it is not here."""
    described = {} if entry.loop is None else {"loop": entry.loop}
    if entry.codec is not None:
        from bench_ours import Wsframe

        return described | Wsframe(entry.codec).describe()
    if entry.install is None:
        return described | {"version": sys.version.split()[0]}
    importlib.import_module(MODULES.get(entry.install, entry.install))
    return described | {"version": version(entry.install)}


if __name__ == "__main__":
    answer(lambda name: ClientWorker(CLIENT.entries[name]))
