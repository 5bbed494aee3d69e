"""What WSFRAME_BUILD_EXT and WSFRAME_PURE_PYTHON promise, with real builds that are run; and what an sdist contains.

Usage: check_builds.py CHECKOUT DIRECTORY. CHECKOUT is not changed; everything is made in DIRECTORY. The interpreter
must be able to make virtual environments. A machine without a compiler is one whose compiler always fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}

#: What an installed copy says of itself, that it works, and that the modules named after it can be loaded.
PROBE = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
import wsframe
from wsframe import _backend
assert wsframe.__file__.startswith(sys.argv[1]), wsframe.__file__
ping = bytes.fromhex("898437fa213d47934f5a")
(event,) = wsframe.Connection(wsframe.Role.SERVER).receive_data(ping)
assert event == wsframe.PingReceived(b"ping"), event
for name in sys.argv[2:]:
    importlib.import_module(f"wsframe.{name}")
print(json.dumps([wsframe.backend, _backend.backend_description]))
"""

CYTHON = ["cython", "cython"]
NOT_BUILT = ["python", "python (extension not built)"]
NOT_WANTED = ["python", "python (WSFRAME_PURE_PYTHON=1)"]


def main() -> None:
    checkout, work = (Path(argument).resolve() for argument in sys.argv[1:])
    work.mkdir(parents=True, exist_ok=True)
    builder = Builder(checkout, work)
    builder.check_sdist()
    builder.check("compiled", {"WSFRAME_BUILD_EXT": "1"}, True)
    builder.check("best effort", {}, True)
    builder.check("pure", {"WSFRAME_BUILD_EXT": "0"}, False)
    builder.check("best effort without a compiler", NO_COMPILER, False)
    builder.check_editable_without_compiler()
    builder.check_refused(
        "compiled without a compiler", {"WSFRAME_BUILD_EXT": "1"} | NO_COMPILER, "/bin/false"
    )
    for wrong in "yes", "2", "true":
        expected = f"WSFRAME_BUILD_EXT must be 1 (build), 0 (do not) or unset (if possible), not '{wrong}'"
        builder.check_refused(f"WSFRAME_BUILD_EXT={wrong}", {"WSFRAME_BUILD_EXT": wrong}, expected)


class Builder:
    """Builds wheels, each from a fresh copy of the checkout, with tools that are installed once."""

    def __init__(self, checkout: Path, work: Path) -> None:
        self.checkout = checkout
        self.work = work
        #: The extension modules, and what belongs to them.
        self.extensions = sorted(path.stem for path in checkout.glob("wsframe/_*.pyx"))
        self.sources = {
            f"wsframe/{path.name}"
            for pattern in ("_*.pyx", "_*.pxd", "_*.h", "_*.pyi")
            for path in checkout.glob(f"wsframe/{pattern}")
        }
        self.began = time.monotonic()
        self.number = 0
        venv = work / "venv"
        run([sys.executable, "-m", "venv", str(venv)])
        self.python = str(venv / "bin/python")
        with (checkout / "pyproject.toml").open("rb") as file:
            requires = tomllib.load(file)["build-system"]["requires"]
        run([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requires])
        self.say("build tools installed")

    def say(self, what: str) -> None:
        """Progress, with the time since the beginning."""
        print(f"{time.monotonic() - self.began:5.1f} s  {what}", flush=True)

    def copy(self) -> Path:
        """The checkout as git would hand it out."""
        self.number += 1
        target = self.work / f"tree{self.number}"
        ignore = shutil.ignore_patterns(
            "*.so", "*.c", "__pycache__", ".git", ".venv", "build", "*.egg-info", ".*_cache"
        )
        shutil.copytree(self.checkout, target, ignore=ignore)
        return target

    def wheel(self, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Build one into ``out`` in the copy that it is run in."""
        self.tree = self.copy()
        command = [
            self.python,
            "-m",
            "pip",
            "wheel",
            "--no-build-isolation",
            "--no-deps",
            "--wheel-dir",
            "out",
            ".",
        ]
        return subprocess.run(
            command,
            cwd=self.tree,
            env=environment(variables),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    def check(self, title: str, variables: dict[str, str], compiled: bool) -> None:
        """A build that must succeed."""
        result = self.wheel(variables)
        if result.returncode:
            raise SystemExit(f"{title}: the build failed\n{result.stdout}")
        (wheel,) = (self.tree / "out").glob("*.whl")
        site = self.tree / "site"
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            archive.extractall(site)  # noqa: S202
        built = sorted(Path(name).name.partition(".")[0] for name in names if name.endswith((".so", ".pyd")))
        expect(title, "extensions in the wheel", built, self.extensions if compiled else [])
        expect(title, "C in the wheel", [name for name in names if name.endswith(".c")], [])
        expect(title, "missing in the wheel", {*self.sources, "wsframe/py.typed"}.difference(names), set())
        usual = CYTHON if compiled else NOT_BUILT
        for value, described in (None, usual), ("1", NOT_WANTED), ("0", usual), ("", usual), ("yes", usual):
            changes = {} if value is None else {"WSFRAME_PURE_PYTHON": value}
            shown = run([self.python, "-I", "-c", PROBE, str(site), *built], env=environment(changes))
            expect(title, f"the codec with WSFRAME_PURE_PYTHON={value}", json.loads(shown), described)
        self.say(f"{title}: {usual[1]}")

    def check_refused(self, title: str, variables: dict[str, str], words: str) -> None:
        """A build that must fail and say why."""
        result = self.wheel(variables)
        expect(title, "failure", result.returncode != 0, True)
        expect(title, f"{words!r} in the output", words in result.stdout, True)
        self.say(f"{title}: refused")

    def check_editable_without_compiler(self) -> None:
        """As in the README's second command."""
        tree = self.copy()
        command = [
            self.python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-build-isolation",
            "--no-deps",
            "--editable",
            ".",
        ]
        run(command, cwd=tree, env=environment(NO_COMPILER))
        shown = run([self.python, "-c", PROBE, str(tree)], env=environment({}), cwd=self.work)
        expect("editable without a compiler", "the codec", json.loads(shown), NOT_BUILT)
        self.say(f"editable without a compiler: {NOT_BUILT[1]}")

    def check_sdist(self) -> None:
        """The sources of the extensions, and nothing that was made from them."""
        tree = self.copy()
        # Left by an earlier build, and not to be handed on; the C is made on the way.
        (tree / "wsframe/_codec.cpython-311-x86_64-linux-gnu.so").write_text("not to be distributed")
        build = "from setuptools.build_meta import build_sdist; build_sdist('out')"
        run([self.python, "-c", build], cwd=tree, env=environment({}))
        made_c = sorted(path.stem for path in tree.glob("wsframe/_*.c"))
        expect("sdist", "the C in the tree", made_c, self.extensions)
        (path,) = (tree / "out").glob("*.tar.gz")
        with tarfile.open(path) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        pages = {page.relative_to(self.checkout).as_posix() for page in self.checkout.rglob("*.html")}
        made = {name for name in names if name.endswith((".c", ".so", ".o", ".pyc", ".html"))} - pages
        expect("sdist", "what was made by a build", made, set())
        wanted = {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md"}
        wanted |= {*self.sources, "wsframe/_codec_py.py", "wsframe/py.typed"}
        wanted |= {"tests/differential.py", "tests/conftest.py"}
        expect("sdist", "what is missing", wanted - names, set())
        self.say(f"sdist: {len(names)} names")


def environment(changes: dict[str, str]) -> dict[str, str]:
    """Ours without what the caller has set for builds."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WSFRAME_") and name not in ("CC", "CXX", "CFLAGS", "PYTHONPATH")
    } | changes


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; return what it prints."""
    result = subprocess.run(command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, check=False)
    if result.returncode:
        raise SystemExit(f"status {result.returncode} of {command}\n{result.stdout}")
    return result.stdout


def expect(title: str, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"{title}: {what}: {found!r}, not {wanted!r}")


if __name__ == "__main__":
    main()
