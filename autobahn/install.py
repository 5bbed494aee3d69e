"""Installing the suite into the cache, for machines without a container engine.

An installation is built under a lock and counts only once its marker file is there, which is written last:
two runs at once wait for each other, and an interrupted one starts afresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cases import HERE, configuration
from errors import SuiteMissingError
from processes import Child, output_of, without_python_settings

CONSTRAINTS = HERE / "constraints-py27.txt"
MARKER = "complete.json"
#: Seconds that one step (a download, a compilation) may take.
STEP_TIMEOUT = 1200.0
#: Python 2.7 and what it needs at run time, and the headers to compile an extension against.
DEBIAN_PACKAGES = (
    "python2.7-minimal",
    "libpython2.7-minimal",
    "libpython2.7-stdlib",
    "python2.7",
    "libpython2.7",
    "libpython2.7-dev",
    "libssl1.1",
    "libffi7",
)
DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: A Python 2.7 that can install and run the suite has these.
PYTHON2_CHECK = "import sys, ssl, zlib, ctypes; assert sys.version_info[:2] == (2, 7); print(sys.executable)"


@dataclass(frozen=True)
class Installed:
    """An environment of Python 2.7 with the suite in it."""

    description: str
    python: Path
    #: What the environment needs besides the usual variables.
    env: dict[str, str]


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where installations live: $XDG_CACHE_HOME or ~/.cache, then wsframe/autobahn."""
    base = environment.get("XDG_CACHE_HOME", "")
    # A relative path in the variable is to be ignored, says the specification that defines it.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "wsframe" / "autobahn"


def installation_directory(way: str) -> Path:
    """Return the directory of one way to install, which changes with everything that is installed."""
    wanted = json.dumps([configuration()["package"], configuration()["virtualenv"]]) + CONSTRAINTS.read_text(
        "utf-8"
    )
    return (
        cache_directory() / f"{configuration()['version']}-{way}-{sha256(wanted.encode()).hexdigest()[:12]}"
    )


@contextlib.asynccontextmanager
async def locked(path: Path, say: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold an exclusive lock on the file `path`; the kernel releases it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say("another run is installing the suite; waiting for it")
                waiting = True
                await asyncio.sleep(0.5)
        yield


@contextlib.asynccontextmanager
async def building(target: Path, say: Callable[[str], None]) -> AsyncIterator[bool]:
    """Lock the installation `target`; yield whether it has to be built, in a directory that is then empty.

    When it was built without an error it is marked as complete, else it is removed.
    """
    async with locked(target.parent / f"{target.name}.lock", say):
        if (target / MARKER).exists():
            yield False
            return
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        complete = False
        try:
            yield True
            (target / MARKER).write_text(json.dumps({"built_by": sys.version}) + "\n", "utf-8")
            complete = True
        finally:
            if not complete:
                log = target / "install.log"
                if log.exists():
                    log.replace(target.parent / f"{target.name}.log")
                shutil.rmtree(target, ignore_errors=True)


async def discard(installed: Installed, say: Callable[[str], None]) -> None:
    """Have an installation that no longer runs made anew by the next that asks for it."""
    target = installed.python.parents[2]
    async with locked(target.parent / f"{target.name}.lock", say):
        (target / MARKER).unlink(missing_ok=True)


async def step(
    argv: Sequence[str | Path], target: Path, env: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run one command of an installation; its output goes to install.log."""
    words = [str(word) for word in argv]
    if cwd is not None:
        words = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(cwd), *words]
    async with Child(words, log=target / "install.log", env=env) as child:
        child.drain()
        try:
            status = await asyncio.wait_for(child.process.wait(), STEP_TIMEOUT)
        except TimeoutError:
            raise SuiteMissingError(f"{Path(str(argv[0])).name} took over {STEP_TIMEOUT:.0f} s") from None
        if status != 0:
            name = " ".join(str(word) for word in argv[:4])
            kept = target.parent / f"{target.name}.log"
            raise SuiteMissingError(f"'{name} ...' failed: {child.last_words() or 'no output'} (see {kept})")


async def find_python2() -> str | None:
    """Return a Python 2.7 of this machine that works, or None."""
    candidates = []
    if shutil.which("pyenv"):
        versions = (await output_of(["pyenv", "versions", "--bare"], timeout=20.0) or "").split()
        for version in sorted(versions, reverse=True):
            if version.startswith("2.7"):
                prefix = await output_of(["pyenv", "prefix", version], timeout=20.0)
                candidates += [f"{prefix}/bin/python2.7"] if prefix else []
    candidates.append("python2.7")
    env = without_python_settings(os.environ)
    for candidate in candidates:
        if found := await output_of([candidate, "-c", PYTHON2_CHECK], timeout=20.0, env=env):
            return found.splitlines()[-1]
    return None


async def install_suite(python2: Path, target: Path, env: Mapping[str, str]) -> None:
    """Make an environment of `python2` in `target`/env and install the suite in it."""
    helper = target / "helper"
    # Newer virtualenvs cannot make an environment of Python 2.7, so the last one that can gets its own.
    await step([sys.executable, "-m", "venv", helper], target, env)
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    await step([helper / "bin" / "python", *pip, configuration()["virtualenv"]], target, env)
    virtualenv = helper / "bin" / "virtualenv"
    options: list[str | Path] = ["--quiet", "--app-data", helper / "app-data", "-p", python2]
    await step([virtualenv, *options, target / "env"], target, env)
    package = configuration()["package"]
    await step([target / "env" / "bin" / "python", *pip, "-c", CONSTRAINTS, package], target, env)
    shutil.rmtree(helper, ignore_errors=True)


async def install_with_python2(say: Callable[[str], None]) -> Installed:
    """Return the suite in an environment of this machine's Python 2.7, installed on first use."""
    target = installation_directory("python2")
    python = target / "env" / "bin" / "python"
    async with building(target, say) as needed:
        if needed:
            python2 = await find_python2()
            if python2 is None:
                raise SuiteMissingError(
                    "this machine has no working Python 2.7 (pyenv install 2.7.18 makes one)"
                )
            say(f"installing the Autobahn|Testsuite for {python2} into {target} (once, about a minute)")
            await install_suite(Path(python2), target, without_python_settings(os.environ))
    return Installed(
        f"Autobahn|Testsuite {configuration()['version']} for Python 2.7 in {target}", python, {}
    )


async def debian_archive() -> str:
    """Return the Debian archive that this machine's own apt uses; it carries the older release as well."""
    format_ = "$(ORIGIN) $(REPO_URI)"
    listed = await output_of(
        ["apt-get", "indextargets", "--format", format_, "Created-By: Packages"], timeout=30.0
    )
    for line in (listed or "").splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian":
            return address
    raise SuiteMissingError("this machine's apt knows no Debian archive")


async def install_with_debian(say: Callable[[str], None]) -> Installed:
    """Return the suite in an environment of Debian 11's Python 2.7, unpacked and not installed."""
    target = installation_directory("debian")
    root = target / "root"
    libraries = sorted({str(path.parent) for path in root.glob("**/libssl.so.1.1")})
    async with building(target, say) as needed:
        if needed:
            if not all(shutil.which(tool) for tool in ("apt-get", "dpkg", "dpkg-deb")):
                raise SuiteMissingError("this machine has no apt")
            say(
                f"unpacking Debian 11's Python 2.7 into {target} and installing the suite (once, about two minutes)"
            )
            await unpack_debian(target, root)
            libraries = sorted({str(path.parent) for path in root.glob("**/libssl.so.1.1")})
            headers = root / "usr" / "include"
            building_env = without_python_settings(os.environ) | {
                "LD_LIBRARY_PATH": ":".join(libraries),
                # The distribution keeps one header in a directory named after the machine.
                "CPATH": f"{headers}:{headers / 'python2.7'}",
            }
            await install_suite(root / "usr" / "bin" / "python2.7", target, building_env)
    return Installed(
        f"Autobahn|Testsuite {configuration()['version']} for Debian 11's Python 2.7 in {target}",
        target / "env" / "bin" / "python",
        {"LD_LIBRARY_PATH": ":".join(libraries)},
    )


async def unpack_debian(target: Path, root: Path) -> None:
    """Download the packages with an apt that knows only its own state, and unpack them under `root`."""
    apt = target / "apt"
    lay_out_apt(apt, await debian_archive())
    env = dict(os.environ) | {"APT_CONFIG": str(apt / "apt.conf")}
    await step(["apt-get", "--quiet", "update"], target, env)
    await step(["apt-get", "--quiet", "download", *DEBIAN_PACKAGES], target, env, cwd=apt / "debs")
    for package in sorted((apt / "debs").glob("*.deb")):
        await step(["dpkg-deb", "-x", package, root], target, env)
    shutil.rmtree(apt)


def lay_out_apt(apt: Path, archive: str) -> None:
    """Make the directories and files of an apt that knows Debian 11 and nothing of this machine."""
    for name in ("state/lists/partial", "cache/archives/partial", "debs"):
        (apt / name).mkdir(parents=True)
    (apt / "state" / "status").touch()
    signed = f" [signed-by={DEBIAN_KEYS}]" if DEBIAN_KEYS.exists() else ""
    (apt / "sources.list").write_text(f"deb{signed} {archive} bullseye main\n", "utf-8")
    (apt / "apt.conf").write_text(
        f'Dir::State "{apt}/state";\n'
        f'Dir::State::status "{apt}/state/status";\n'
        f'Dir::Cache "{apt}/cache";\n'
        f'Dir::Etc::sourcelist "{apt}/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        # As root apt would change to a user who may not write here.
        'APT::Sandbox::User "root";\n',
        "utf-8",
    )
