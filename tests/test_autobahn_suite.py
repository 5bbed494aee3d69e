"""Getting the Autobahn|Testsuite, and asking whether a server is there, without either."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import textwrap
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("the runner needs process groups and file locks of a POSIX system", allow_module_level=True)

AUTOBAHN = Path(__file__).resolve().parent.parent / "autobahn"
# The runner's files are scripts: they import each other by their directory.
sys.path.insert(0, str(AUTOBAHN))

import install  # noqa: E402
import probe  # noqa: E402
import suite  # noqa: E402
from errors import SuiteMissingError, UnusableError  # noqa: E402

# A server that may not be there


def answered(reply: bytes | None) -> str:
    """Return what the probe says of a server that answers `reply`, or never anything."""

    async def main() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                if reply is None:
                    await reader.read()
                else:
                    writer.write(reply)
            except ConnectionResetError:
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            try:
                await probe.probe(f"ws://127.0.0.1:{port}/a?b", timeout=0.5)
            except UnusableError as error:
                return str(error)
        return ""

    return asyncio.run(main())


def test_probe() -> None:
    assert answered(b"HTTP/1.1 101 Switching Protocols\r\n\r\n") == ""
    assert "refuses the WebSocket handshake" in answered(b"HTTP/1.1 404 Not Found\r\n\r\n")
    assert "not a WebSocket server" in answered(b"SSH-2.0-x\r\n")
    assert "not a WebSocket server" in answered(b"")
    assert "not a WebSocket server" in answered(b"x" * 100_000)
    assert "within 0.5 s" in answered(None)
    with pytest.raises(UnusableError, match=r"no server answers at ws://127\.0\.0\.1:1: Connection refused"):
        asyncio.run(probe.probe("ws://127.0.0.1:1"))


# Getting the suite


def executable(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text).lstrip(), "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_container_client_without_an_engine_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for name in ("docker", "podman"):
        executable(tmp_path / name, "#!/bin/sh\necho 'Client: 28.2'\necho 'no daemon' >&2\nexit 1\n")
    assert asyncio.run(suite.answering_engine()) is None
    executable(tmp_path / "podman", "#!/bin/sh\necho 5.0\n")
    assert asyncio.run(suite.answering_engine()) == "podman"
    executable(tmp_path / "docker", "#!/bin/sh\necho 28.2\n")
    assert asyncio.run(suite.answering_engine()) == "docker"


def test_container_command(tmp_path: Path) -> None:
    made = suite.container_suite("docker", "image:1", native=True)
    words = made.command(["run", "spec"], directory=tmp_path)
    assert words[:2] == ["docker", "run"]
    assert words.index("--network") < words.index("image:1")
    assert f"type=bind,source={tmp_path},target={tmp_path}" in words
    assert words[-3:] == [str(suite.WRAPPER), "run", "spec"]
    assert made.interface == "127.0.0.1"
    assert "--publish" not in words

    elsewhere = suite.container_suite("docker", "image:1", native=False)
    assert "127.0.0.1:77:77" in elsewhere.command(["run", "spec"], directory=tmp_path, port=77)
    assert elsewhere.port_to_listen_on() > 0
    assert elsewhere.reaches("ws://localhost:9/a?b") == "ws://host.docker.internal:9/a?b"
    assert elsewhere.reaches("ws://example.org/") == "ws://example.org/"
    assert made.reaches("ws://localhost:9/a?b") == "ws://localhost:9/a?b"


def test_the_container_finds_the_suites_python(tmp_path: Path) -> None:
    """The shell command that is the container's, run here: an interpreter named in wstest's first line."""
    python = executable(tmp_path / "python", '#!/bin/sh\necho "got $*"\n')
    executable(tmp_path / "wstest", f"#!{python}\n")
    made = suite.container_suite("docker", "image:1", native=True)
    words = made.command(["list"])
    inside = words[words.index("image:1") + 1 :]

    async def main() -> str:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", *inside, stdout=asyncio.subprocess.PIPE, env={"PATH": f"{tmp_path}:/bin:/usr/bin"}
        )
        return (await process.communicate())[0].decode().strip()

    assert asyncio.run(main()) == f"got {suite.WRAPPER} list"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#!/a/bin/python2.7\nimport x\n", ("/a/bin/python2.7",)),
        ("#!/usr/bin/env python2\n", ("/usr/bin/env", "python2")),
        ("#! /opt/pypy/bin/pypy\n", ("/opt/pypy/bin/pypy",)),
        ("#!/bin/sh\n'''exec' /a/very long/python \"$0\" \"$@\"\n' '''\n", ("/a/very long/python",)),
        ("#!/bin/sh\necho\n", None),
        ("import x\n", None),
        ("", None),
    ],
)
def test_interpreter_of_a_script(text: str, expected: tuple[str, ...] | None, tmp_path: Path) -> None:
    script = tmp_path / "wstest"
    script.write_text(text, "utf-8")
    assert suite.interpreter_of(script) == expected


def test_a_suite_with_other_cases_is_refused(tmp_path: Path) -> None:
    event = json.dumps({"event": "suite", "version": "0.1", "cases": ["1.1.1"]})
    other = suite.Suite("an old one", (sys.executable, "-c", f"print({event!r})"))
    with pytest.raises(SuiteMissingError, match=r"version 0\.1 with 1 cases"):
        asyncio.run(suite.checked(other))
    broken = suite.Suite("a broken one", (sys.executable, "-c", "import sys; sys.exit('no twisted')"))
    with pytest.raises(SuiteMissingError, match="a broken one does not run: no twisted"):
        asyncio.run(suite.checked(broken))


def test_two_installations_at_once_build_once(tmp_path: Path) -> None:
    target = tmp_path / "suite"
    built: list[int] = []
    said: list[str] = []

    async def one(number: int) -> None:
        async with install.building(target, said.append) as needed:
            if needed:
                built.append(number)
                await asyncio.sleep(0.2)
                (target / "content").touch()
        assert (target / "content").exists()

    async def main() -> None:
        await asyncio.gather(one(1), one(2))

    asyncio.run(main())
    assert built == [1]
    assert said == ["another run is installing the suite; waiting for it"]


def test_an_interrupted_installation_leaves_nothing_and_is_made_anew(tmp_path: Path) -> None:
    target = tmp_path / "suite"

    async def attempt(command: list[str]) -> None:
        async with install.building(target, lambda text: None) as needed:
            assert needed
            await install.step(command, target, dict(os.environ))

    with pytest.raises(SuiteMissingError, match=r"sh .*failed: out of disk \(see .*suite\.log\)"):
        asyncio.run(attempt(["/bin/sh", "-c", "echo out of disk >&2; exit 1"]))
    assert not target.exists()
    assert "out of disk" in (tmp_path / "suite.log").read_text("utf-8")

    target.mkdir()  # what a run leaves that was killed by force: no marker
    (target / "half").touch()
    asyncio.run(attempt(["/bin/sh", "-c", "true"]))
    assert not (target / "half").exists()
    assert (target / install.MARKER).exists()


def test_cache_directory(tmp_path: Path) -> None:
    assert install.cache_directory({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "wsframe" / "autobahn"
    home = Path.home() / ".cache" / "wsframe" / "autobahn"
    assert install.cache_directory({"XDG_CACHE_HOME": "relative"}) == home
    assert install.cache_directory({}) == home


def test_no_file_names_a_package_registry() -> None:
    for path in AUTOBAHN.iterdir():
        if path.is_file():
            assert "://" not in path.read_text("utf-8").replace("ws://", "").replace("wss://", ""), path
