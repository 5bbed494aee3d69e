"""Running one shard: some cases of one row, with their own suite and, where the peer is ours, their own peer.

The specification file given to the suite has one object more than the suite knows, "wsframe":

direction       "server" or "client": what the peer under test is
agent           the name under which the suite reports
interface, port where the suite listens (direction "client")
wrong_masking   whether the suite masks its frames wrongly
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases import HERE
from errors import UnusableError
from processes import Child
from rows import Row
from suite import Suite
from verdict import Result

#: Seconds for the suite or one of our peers to start, and for a client to ask for its first case.
START_TIMEOUT = 60.0
#: Seconds that a client may take to end by itself after its last case.
END_TIMEOUT = 10.0
#: A shard is started again after a case that never ended, this many times.
STALLS_ALLOWED = 3


@dataclass
class Shard:
    """One shard and how far it is. `run()` runs its cases; every result goes to `on_result`."""

    row: Row
    number: int
    cases: list[str]
    suite: Suite
    directory: Path
    stall_timeout: float
    on_result: Callable[[Result], None]
    on_start: Callable[[str], None] = lambda case: None
    #: Why a case has no result, by id.
    why_missing: dict[str, str] = field(default_factory=dict)
    _left: list[str] = field(default_factory=list)
    #: The case that was last begun, until it ends.
    _current: str | None = None
    #: Whether any case was ever begun: until then a peer that does nothing is a peer that does not work.
    began: bool = False

    async def run(self) -> None:
        """Run all the cases; a case that hangs is given up, and the shard goes on with the next."""
        self._left = list(self.cases)
        attempt = Serving(self).run if self.row.direction == "server" else Connecting(self).run
        for _ in range(STALLS_ALLOWED + 1):
            if not self._left:
                return
            if not await self._until_stalled(attempt):
                return
        self._give_up(f"not run, because {STALLS_ALLOWED + 1} cases of its shard had hung before it")

    async def _until_stalled(self, attempt: Callable[[], Awaitable[str]]) -> bool:
        """Run what is left; return whether a case hung and was taken out."""
        try:
            reason = await attempt()
        except TimeoutError:
            case = self._current if self._current in self._left else self._left[0]
            assert case is not None
            self._left.remove(case)
            self.why_missing[case] = f"it hung: nothing happened for {self.stall_timeout:g} s"
            return True
        self._give_up(reason)
        return False

    def _give_up(self, reason: str) -> None:
        for case in self._left:
            self.why_missing[case] = reason

    @property
    def left(self) -> list[str]:
        """The cases that have not ended yet."""
        return self._left

    def log(self, who: str) -> Path:
        """Return the log file of one of the shard's processes."""
        return self.directory / "logs" / f"shard{self.number}-{who}.log"

    def start_suite(self, spec: dict[str, Any]) -> Child:
        """Return the suite's process for `spec`, not yet started."""
        port = self.suite.port_to_listen_on() if self.row.direction == "client" else 0
        spec = spec | {
            "outdir": str(self.directory),
            "cases": self._left,
            "wsframe": {
                "direction": self.row.direction,
                "agent": self.row.slug,
                "interface": self.suite.interface,
                "port": port,
                "wrong_masking": self.row.wrong_masking,
            },
        }
        path = self.directory / "logs" / f"shard{self.number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(spec, indent=2) + "\n", "utf-8")
        command = self.suite.command(["run", str(path)], directory=self.directory, port=port)
        return Child(command, log=self.log("suite"), env=self.suite.env)

    async def event(self, child: Child, timeout: float) -> dict[str, Any] | None:
        """Return the suite's next event, or None at its end; results and beginnings are passed on."""
        line = await child.line(timeout)
        if line is None:
            return None
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            return {"event": "noise"}
        if event["event"] == "start":
            self._current = event["case"]
            self.began = True
            self.on_start(event["case"])
        elif event["event"] == "done" and event["case"] in self._left:
            self._left.remove(event["case"])
            self._current = None
            self.on_result(Result.from_event(event))
        return event


class Serving:
    """The peer under test is a server: the suite connects to it."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def run(self) -> str:
        """Run what is left and return why, if something remains; TimeoutError when the suite falls silent."""
        shard = self._shard
        if shard.row.target is not None:
            return await self._against(shard.row.target, None)
        async with Child(
            own_peer("server_peer.py", shard.row), log=shard.log("peer"), env=peer_env(shard.row)
        ) as peer:
            port = await listening_port(peer, shard.row)
            peer.drain()
            return await self._against(f"ws://127.0.0.1:{port}", peer)

    async def _against(self, url: str, peer: Child | None) -> str:
        shard = self._shard
        options = {"maskClientFrames": False} if shard.row.wrong_masking else {}
        server = {"agent": shard.row.slug, "url": shard.suite.reaches(url), "options": options}
        spec: dict[str, Any] = {"servers": [server]}
        refused = ""
        async with shard.start_suite(spec) as suite:
            while (event := await shard.event(suite, shard.stall_timeout)) is not None:
                if event["event"] == "finished":
                    break
                if event["event"] == "refused":
                    refused = f"the server no longer accepted connections ({event['reason']})"
        if peer is not None and peer.process.returncode is not None:
            return f"the server under test ended with status {peer.process.returncode}: {peer.last_words()}"
        return refused or f"the suite ended early: {suite.last_words()}"


class Connecting:
    """The peer under test is a client: the suite listens, and the client asks for one case after the other."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def run(self) -> str:
        """Run what is left and return why, if something remains; TimeoutError when the client falls silent."""
        shard = self._shard
        async with shard.start_suite({"url": "ws://127.0.0.1:9001", "options": {}}) as suite:
            port = await self._listening(suite)
            url = f"ws://127.0.0.1:{port}"
            if shard.row.target is None:
                argv, env = (
                    [*own_peer("client_peer.py", shard.row), "--agent", shard.row.slug, url],
                    peer_env(shard.row),
                )
            else:
                argv, env = client_command(shard.row.target, url, shard.row.slug), dict(os.environ)
            async with Child(argv, log=shard.log("peer"), env=env) as peer:
                peer.drain()
                return await self._follow(suite, peer)

    async def _listening(self, suite: Child) -> int:
        try:
            event = await self._shard.event(suite, START_TIMEOUT)
            while event is not None and event["event"] != "listening":
                event = await self._shard.event(suite, START_TIMEOUT)
        except TimeoutError:
            event = None
        if event is None:
            raise UnusableError(f"the suite did not start: {suite.last_words() or 'no output'}")
        return int(event["port"])

    async def _follow(self, suite: Child, peer: Child) -> str:
        """Pass events on until the client has ended."""
        shard = self._shard
        gone = asyncio.create_task(peer.process.wait())
        try:
            while shard.left:
                silence = shard.stall_timeout if shard.began else START_TIMEOUT
                reading = asyncio.create_task(shard.event(suite, silence))
                await asyncio.wait({gone, reading}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    # The suite still has to notice that the last connection is gone.
                    await asyncio.wait({reading}, timeout=2.0)
                if not reading.done():
                    reading.cancel()
                    await asyncio.wait({reading})
                    break
                if reading.result() is None:
                    return f"the suite ended early: {suite.last_words()}"
            await asyncio.wait({gone}, timeout=END_TIMEOUT)
        except TimeoutError:
            if shard.began:
                raise
            raise UnusableError(f"the client did not ask for a case within {START_TIMEOUT:g} s") from None
        finally:
            gone.cancel()
        reason = f"the client ended with status {peer.process.returncode} before it was run"
        if words := peer.last_words():
            reason += f"; its last line was: {words}"
        if not shard.began:
            raise UnusableError(reason.replace("before it was run", "before it ran a case"))
        return reason


def own_peer(script: str, row: Row) -> list[str]:
    """Return the command of one of our test peers."""
    assert row.adapter is not None
    assert row.codec is not None
    return [sys.executable, str(HERE / script), "--adapter", row.adapter, "--codec", row.codec]


def peer_env(row: Row) -> dict[str, str]:
    """Return the environment of one of our test peers: this checkout first, and the codec asked for."""
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    return dict(os.environ) | {
        "PYTHONPATH": path,
        "WSFRAME_PURE_PYTHON": "1" if row.codec == "python" else "0",
    }


def client_command(command: str, url: str, agent: str) -> list[str]:
    """Return somebody else's client command with the address filled in, or appended when it has no place for it."""
    words = shlex.split(command)
    filled = [word.replace("{url}", url).replace("{agent}", agent) for word in words]
    return filled if any("{url}" in word for word in words) else [*filled, url]


async def listening_port(peer: Child, row: Row) -> int:
    """Wait for our server peer's one line and return its port."""
    try:
        line = await peer.line(START_TIMEOUT)
    except TimeoutError:
        line = None
    words: Sequence[str] = (line or "").split()
    if len(words) != 2 or words[0] != "listening":
        raise UnusableError(f"our server ({row.peer}) did not start: {peer.last_words() or 'no output'}")
    return int(words[1])
