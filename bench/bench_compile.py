"""The benchmark's own C programs, compiled on first use and kept in a cache directory."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench_errors import UnusableError

SOURCES = Path(__file__).resolve().parent
FLAGS = ("-std=gnu11", "-O3", "-Wall", "-Wextra")


@dataclass(frozen=True)
class Build:
    """How a program can be compiled: what is tried in turn, as flags for the compiler and for the linker."""

    compile: tuple[str, ...] = ()
    link: tuple[str, ...] = ()


PLAIN = Build()
TLS = Build(("-DWITH_TLS",), ("-lssl", "-lcrypto"))


@dataclass(frozen=True)
class Program:
    """A compiled program, and how it was compiled."""

    path: Path
    build: Build


def compiler() -> list[str]:
    """Return the command of the C compiler.

    Raises:
        UnusableError: there is none.
    """
    for candidate in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        command = shlex.split(candidate)
        if command and shutil.which(command[0]):
            return command
    raise UnusableError(
        "the load generator is a C program and there is no C compiler (cc, gcc, clang, or $CC): install one;"
        " `bench codec` needs none"
    )


def check_system() -> None:
    """Raise UnusableError where the programs cannot run."""
    if not sys.platform.startswith("linux"):
        raise UnusableError(
            "this benchmark needs Linux: epoll, and the clocks and the memory of other processes"
        )


def compiled(name: str, builds: tuple[Build, ...] = (PLAIN,)) -> Program:
    """Return the program made of `name`.c, in the first way that works.

    Raises:
        UnusableError: there is no compiler, or it fails.
    """
    command = compiler()
    version = _run([*command, "--version"]).stdout
    errors = ""
    for build in builds:
        source = SOURCES / f"{name}.c"
        flags = [*FLAGS, *build.compile]
        key = hashlib.sha256(repr((command, version, flags, build.link)).encode())
        for file in (source, SOURCES / "bench_common.h"):
            key.update(file.read_bytes())
        path = _cache() / f"{name}-{key.hexdigest()[:16]}"
        if path.is_file():
            return Program(path, build)
        with tempfile.TemporaryDirectory(dir=path.parent) as directory:
            made = Path(directory) / name
            done = _run([*command, *flags, "-o", str(made), str(source), *build.link])
            if done.returncode == 0:
                # In one step: another run may be doing the same.
                made.replace(path)
                return Program(path, build)
        errors = done.stderr
    raise UnusableError(f"{shlex.join(command)} cannot compile {name}.c: {_first_error(errors)}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnusableError(f"{command[0]} does not run: {error}") from None


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else "it does not say why")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(base) / "wsframe-bench"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableError(f"cannot keep what is compiled in {directory}: {error.strerror}") from None
    return directory
