"""Makes the host in this directory what it is in the field: a package that runs, with a copy of wsframe in it.

Used by the tests and by ``.ci/``; it may not import wsframe, which need not be installed where a host is built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
NAME = "myserver._vendor.wsframe"
#: The codecs that a copy can have: the compiled one needs its source.
CODECS = ["python", "cython"] if (CHECKOUT / "wsframe/_codec.pyx").exists() else ["python"]


def vendor(dest: Path, *arguments: str) -> str:
    """Run the command, as somebody with a checkout would; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "wsframe", "vendor", str(dest), *arguments]
    run = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"exit status {run.returncode}: {run.stdout}{run.stderr}")
    return run.stdout


def extension_line(printed: str) -> str | None:
    """The line for setup.py, as the command printed it; None where there is nothing to compile."""
    return next((line.strip() for line in printed.splitlines() if "ext_modules=" in line), None)


def build(project: Path, line: str) -> None:
    """Build a host's extension modules in place, with the line that the command printed."""
    (project / "setup.py").write_text(f"from setuptools import Extension, setup\n\nsetup(\n    {line}\n)\n")
    # A package beside setup.py is found without being named; a directory of tests would be another.
    (project / "setup.cfg").write_text("[options]\npackages =\n")
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    run = subprocess.run(
        command, cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"building failed:\n{run.stdout}{run.stderr}")


def make_host(project: Path, codec: str) -> None:
    """Put the host and its copy of wsframe into that directory."""
    shutil.copytree(
        HERE / "myserver", project / "myserver", ignore=shutil.ignore_patterns("__pycache__", "_vendor")
    )
    line = extension_line(vendor(project / NAME.replace(".", "/")))
    if codec == "cython":
        assert line is not None
        build(project, line)


@contextmanager
def running(project: Path, codec: str) -> Iterator[int]:
    """Run the host and give its port."""
    environment = {**os.environ, "PYTHONPATH": str(project)}
    environment["WSFRAME_PURE_PYTHON"] = "1" if codec == "python" else "0"
    command = [sys.executable, "-W", "error", "-m", "myserver.server", "--codec", codec]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("listening "):
                raise RuntimeError(f"the host did not start: {line!r}")
            yield int(line.split()[1])
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
