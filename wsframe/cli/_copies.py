"""What a vendored copy consists of, and what it says about itself.

What is copied goes by name, so that a new room of the core needs no word here: the core is what begins with an
underscore. The copy's `VENDORED.json` says where it comes from, with a hash of every file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .._version import __version__

PACKAGE = Path(__file__).resolve().parents[1]
STAMP = "VENDORED.json"
#: The adapters that can go with a copy, as far as this wsframe has them.
ADAPTERS = tuple(name for name in ("aio", "sync") if (PACKAGE / name).is_dir())

#: Directly below the package, begins with an underscore, and is not the core: never copied.
_NOT_COPIED = ("__main__.py", "__pycache__")
#: What is named like this goes with any adapter, and not without one.
_FOR_ADAPTERS = ("_adapter",)
#: An allow-list: an editor's backup or a generated C file is not part of wsframe.
_SOURCES = (".py", ".pyi", ".pyx", ".pxd", ".h", ".typed")
#: What building leaves beside the source of an extension module.
_PRODUCTS = (".so", ".pyd", ".c", ".o")


class Refusal(Exception):
    """The command cannot be done: one sentence, and the exit status (1 failed, 2 wrongly called)."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Stamp:
    """What a copy says about itself.

    Attributes:
        version: of the wsframe that it was made from.
        commit: likewise; None where nobody knew.
        adapters: what it has above the core.
        files: path -> SHA-256 of everything in it but this stamp.
    """

    version: str
    commit: str | None
    adapters: tuple[str, ...]
    files: dict[str, str]

    def __str__(self) -> str:
        return f"wsframe {self.version} ({', '.join(('core', *self.adapters))})"

    @property
    def extensions(self) -> dict[str, str]:
        """What extension modules are built from, with hashes."""
        return {name: value for name, value in self.files.items() if name.endswith((".pyx", ".pxd", ".h"))}

    def dump(self) -> bytes:
        """The stamp as it is written. It has no date, so that the same source always gives the same copy."""
        value = {
            "about": "A copy made by `python -m wsframe vendor`, which also updates it, and checks it with --check.",
            "version": self.version,
            "commit": self.commit,
            "with": self.adapters,
            "sha256": self.files,
        }
        return (json.dumps(value, indent=2) + "\n").encode()


def stamp_of(contents: dict[str, bytes], adapters: Iterable[str], commit: str | None = None) -> Stamp:
    """The stamp of a copy that would be made now."""
    files = {name: _digest(data) for name, data in contents.items()}
    return Stamp(__version__, commit, tuple(sorted(adapters)), files)


def read_stamp(dest: Path) -> Stamp | None:
    """The stamp of a former copy, or None where there is none."""
    try:
        value = json.loads((dest / STAMP).read_bytes())
        return Stamp(str(value["version"]), value["commit"], tuple(value["with"]), dict(value["sha256"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise Refusal(f"{dest / STAMP} was changed and cannot be read any more; restore it") from None


# The source.


def current_files(adapters: Collection[str]) -> dict[str, bytes]:
    """Path -> content of what a copy with these adapters would consist of now."""
    rooms = [
        path
        for path in PACKAGE.iterdir()
        if path.name.startswith("_")
        and path.name not in _NOT_COPIED
        and (adapters or not path.name.startswith(_FOR_ADAPTERS))
    ]
    rooms += [PACKAGE / "py.typed", *(PACKAGE / name for name in adapters)]
    paths = [path for room in rooms for path in (room.rglob("*") if room.is_dir() else [room])]
    files = {
        path.relative_to(PACKAGE).as_posix(): path.read_bytes()
        for path in paths
        if path.suffix in _SOURCES or path.name == "py.typed"
    }
    return dict(sorted({**files, "LICENSE": _licence()}.items()))


def _licence() -> bytes:
    """The text that must go with every copy: from the checkout, or from the installed distribution."""
    if _in_checkout():
        return PACKAGE.with_name("LICENSE").read_bytes()
    try:
        distribution = importlib.metadata.distribution(PACKAGE.name)
    except importlib.metadata.PackageNotFoundError:
        text = None
    else:
        text = distribution.read_text("licenses/LICENSE") or distribution.read_text("LICENSE")
    if not text:
        raise Refusal("wsframe's licence is not where it was installed, and no copy may be made without it")
    return text.encode()


def _in_checkout() -> bool:
    """Whether this package lies in a checkout or an unpacked sdist."""
    return all(PACKAGE.with_name(name).is_file() for name in ("LICENSE", "pyproject.toml"))


def current_commit() -> str | None:
    """The commit that this package is at, with -dirty where it was changed since; None where nobody knows."""
    if not _in_checkout():
        try:
            # What pip writes when it installs from a repository.
            written = importlib.metadata.distribution(PACKAGE.name).read_text("direct_url.json")
            return str(json.loads(written or "{}")["vcs_info"]["commit_id"])
        except (importlib.metadata.PackageNotFoundError, KeyError, ValueError):
            return None
    if not PACKAGE.with_name(".git").exists():
        return None
    # The checkout may belong to somebody else, as in a container.
    git = ["git", "-c", "safe.directory=*", "-C", str(PACKAGE)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603
        changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if changed.stdout else "")


# The copy.


def hashes(dest: Path) -> dict[str, str]:
    """Path -> SHA-256 of everything in the copy but the stamp and what building and running leave."""
    found = {}
    for name in _walk(dest):
        path = dest / name
        if name != STAMP and path.suffix != ".pyc" and not is_product(name):
            # A link is no file of ours, whatever it points to.
            found[name] = "a link" if path.is_symlink() else _digest(path.read_bytes())
    return found


def products(dest: Path) -> list[str]:
    """What was built in the copy."""
    return [name for name in _walk(dest) if is_product(name)]


def is_product(name: str) -> bool:
    """Whether a path in the copy is that of a built extension module, or of what was made on the way to it."""
    path = PurePosixPath(name)
    return len(path.parts) == 1 and name.startswith("_") and path.suffix in _PRODUCTS


def _walk(dest: Path) -> list[str]:
    return sorted(
        (Path(directory) / name).relative_to(dest).as_posix()
        for directory, _, names in os.walk(dest)
        for name in names
    )


def _digest(data: bytes) -> str:
    """The hash of a text file. Version control may have given it other line ends, which is no change."""
    return hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()


def put(dest: Path, contents: dict[str, bytes], keep: Iterable[str]) -> None:
    """Put a directory of these files, and of those to keep of the former one, in its place: all of it or nothing."""
    _make_packages(dest.parent)
    holder = Path(tempfile.mkdtemp(prefix=f".{dest.name}-", dir=dest.parent))
    new, old = holder / "new", holder / "old"
    try:
        for name, data in contents.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        for name in keep:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(dest / name, new / name, follow_symlinks=False)
        if dest.exists():
            dest.rename(old)
        try:
            new.rename(dest)
        except BaseException:
            if old.exists():
                old.rename(dest)
            raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _make_packages(directory: Path) -> None:
    """Make what is missing of the packages around the copy."""
    if not directory.exists():
        _make_packages(directory.parent)
        directory.mkdir()
        (directory / "__init__.py").touch()
