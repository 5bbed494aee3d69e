"""Getting the Autobahn|Testsuite, and the command line that runs it.

The suite is Python 2.7. There are four ways to it, tried in this order:

wstest      the user names an installed `wstest` script
container   the suite's own image, when an engine *answers* (an installed client says nothing about that)
python2     the suite from the package index, in an environment of a Python 2.7 that is on this machine
debian      the same, in a Python 2.7 unpacked from Debian 11's packages

The last two are installed once, into the cache; see `install.py`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cases import HERE, all_cases, configuration
from errors import SuiteMissingError, UnusableError
from install import Installed, discard, install_with_debian, install_with_python2
from processes import Child, output_of, without_python_settings

WRAPPER = HERE / "wstest_main.py"
WAYS = ("auto", "container", "python2", "debian")

#: Tells the user what is going on.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Suite:
    """A suite that can be run."""

    #: For people: which way it came.
    description: str
    #: Runs `wstest_main.py`, whose arguments are appended.
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=lambda: without_python_settings(os.environ))
    #: The client of the container engine, or None.
    engine: str | None = None
    #: Where the suite listens, as it sees it; only inside a container is that not the loopback interface.
    interface: str = "127.0.0.1"
    #: The name under which the suite reaches servers on this machine's loopback interface.
    host: str = "127.0.0.1"

    def command(self, arguments: Sequence[str], *, directory: Path | None = None, port: int = 0) -> list[str]:
        """Return the command that runs the wrapper; it may write to `directory` and listen on `port`."""
        if self.engine is None:
            return [*self.argv, *arguments]
        options = ["--mount", f"type=bind,source={HERE},target={HERE},readonly"]
        if directory is not None:
            # The same path inside and outside: nothing has to be translated.
            options += ["--mount", f"type=bind,source={directory},target={directory}"]
        if port:
            options += ["--publish", f"127.0.0.1:{port}:{port}"]
        start, end = self.argv.index("run") + 1, len(self.argv)
        return [*self.argv[:start], *options, *self.argv[start:end], *arguments]

    def reaches(self, url: str) -> str:
        """Return the address under which the suite reaches the server that is `url` for us."""
        parts = urlsplit(url)
        if self.host == "127.0.0.1" or parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            return url
        return parts._replace(netloc=self.host + (f":{parts.port}" if parts.port else "")).geturl()

    def port_to_listen_on(self) -> int:
        """Return 0 where the suite may pick its port itself, else one that is free now, to be published."""
        if self.interface == "127.0.0.1":
            return 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port


def from_wstest(path: str) -> Suite:
    """Return the suite whose `wstest` script is at `path`; the script's first line names its Python."""
    found = shutil.which(path)
    if found is None:
        raise UnusableError(f"there is no wstest to run at {path!r}")
    script = Path(found)
    interpreter = interpreter_of(script)
    if interpreter is None:
        raise UnusableError(f"{path!r} is not a wstest script: its first lines do not name a Python")
    return Suite(f"wstest at {script}", (*interpreter, str(WRAPPER)))


def interpreter_of(script: Path) -> tuple[str, ...] | None:
    """Return the command in a Python script's first line, also where pip hid a long one behind /bin/sh."""
    lines = script.read_bytes()[:4096].decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("#!"):
        return None
    words = lines[0][2:].split()
    if words == ["/bin/sh"] and len(lines) > 1 and lines[1].startswith("'''exec'"):
        words = [lines[1].removeprefix("'''exec'").split(' "$0"')[0].strip().strip('"')]
    if not words or not any(name in words[-1] for name in ("python", "pypy")):
        return None
    return tuple(words)


async def answering_engine() -> str | None:
    """Return "docker" or "podman", whichever has an engine that answers, or None."""
    for client, question in (
        ("docker", ["version", "--format", "{{.Server.Version}}"]),
        ("podman", ["info", "--format", "{{.Version.Version}}"]),
    ):
        if shutil.which(client) and await output_of([client, *question], timeout=10.0):
            return client
    return None


async def from_container(say: Say) -> Suite:
    """Return the suite in its container image, pulled if need be."""
    engine = await answering_engine()
    if engine is None:
        raise SuiteMissingError("no container engine answers")
    image: str = configuration()["image"]
    if await output_of([engine, "image", "inspect", "--format", "{{.Id}}", image], timeout=30.0) is None:
        say(f"pulling the image {image} with {engine} (once)")
        if await output_of([engine, "pull", "--quiet", image], timeout=1800.0) is None:
            raise SuiteMissingError(f"{engine} could not pull {image}")
    return container_suite(engine, image, native=platform.system() == "Linux")


def container_suite(engine: str, image: str, *, native: bool) -> Suite:
    """Return the suite that `engine` runs from `image`; `native` when containers share this machine's kernel."""
    options = ["--rm", "--interactive", "--init", "--security-opt", "label=disable"]
    if engine == "docker":
        # Else the reports would belong to root. Podman without root maps its root to the user already.
        options += ["--user", f"{os.getuid()}:{os.getgid()}"]
    if native:
        options += ["--network", "host"]
    # The image puts the suite into a Python of its own, which only the first line of the script names.
    start = (
        "script=$(command -v wstest || echo /opt/pypy/bin/wstest); "
        "python=$(sed -n '1s/^#! *//p' \"$script\"); "
        'exec $python "$@"'
    )
    return Suite(
        f"{image} in {engine}",
        (engine, "run", *options, "--entrypoint", "/bin/sh", image, "-c", start, "wstest", str(WRAPPER)),
        env=dict(os.environ),
        engine=engine,
        # Every interface of the container, whose port is then published on the loopback interface alone.
        interface="127.0.0.1" if native else "0.0.0.0",  # noqa: S104
        host="127.0.0.1" if native else "host.docker.internal",
    )


async def list_cases(suite: Suite) -> tuple[str, list[str]]:
    """Ask the suite for its version and its case ids."""
    log = Path(tempfile.mkdtemp(prefix="wsframe-autobahn-")) / "suite.log"
    try:
        async with Child(suite.command(["list"]), log=log, env=suite.env) as child:
            try:
                line = await child.line(60.0)
            except TimeoutError:
                line = None
            if line is None or not line.startswith("{"):
                raise SuiteMissingError(
                    f"{suite.description} does not run: {child.last_words() or line or 'no output'}"
                )
            event = json.loads(line)
            return str(event["version"]), list(event["cases"])
    finally:
        shutil.rmtree(log.parent, ignore_errors=True)


async def checked(suite: Suite) -> Suite:
    """Return the suite when it runs and has exactly the cases that we expect."""
    version, ids = await list_cases(suite)
    if ids != list(all_cases()):
        raise SuiteMissingError(
            f"{suite.description} is version {version} with {len(ids)} cases; "
            f"the expected result is for {configuration()['version']} with {len(all_cases())}"
        )
    return suite


async def from_installation(install: Callable[[Say], Awaitable[Installed]], say: Say) -> Suite:
    """Return the suite that `install` puts into the cache, made anew when the one there no longer runs."""
    installed = await install(say)
    try:
        return await checked(installed_suite(installed))
    except SuiteMissingError as error:
        say(f"{error}; installing it anew")  # the Python 2.7 that it was made of may be gone
        await discard(installed, say)
    return await checked(installed_suite(await install(say)))


def installed_suite(installed: Installed) -> Suite:
    """Return the suite of an installation."""
    env = without_python_settings(os.environ) | installed.env
    return Suite(installed.description, (str(installed.python), str(WRAPPER)), env=env)


async def get_suite(say: Say, *, wstest: str | None = None, way: str = "auto") -> Suite:
    """Return a suite that runs, by the given way or by the first that works."""
    if wstest is not None:
        return await checked(from_wstest(wstest))
    reasons = []
    for each in WAYS[1:] if way == "auto" else (way,):
        try:
            if each == "container":
                return await checked(await from_container(say))
            return await from_installation(
                install_with_python2 if each == "python2" else install_with_debian, say
            )
        except SuiteMissingError as error:
            reasons.append(f"{each}: {error}")
    raise UnusableError("the Autobahn|Testsuite cannot be had here; " + "; ".join(reasons))
