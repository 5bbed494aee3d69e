"""`python -m wsframe vendor DEST`: copy wsframe into another package, and say later whether the copy still is one."""

from __future__ import annotations

import argparse
import keyword
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ._copies import (
    ADAPTERS,
    PACKAGE,
    STAMP,
    Refusal,
    Stamp,
    current_commit,
    current_files,
    hashes,
    products,
    put,
    read_stamp,
    stamp_of,
)

__all__ = ["add_parser"]

#: What marks the directory from which a host is built.
PROJECT_FILES = ("pyproject.toml", "setup.py", ".git")


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "vendor",
        help="copy wsframe into another package",
        description="Copy the sans-IO core, and the adapters asked for, to the new package DEST, such as"
        " myserver/_vendor/wsframe; or bring the copy in DEST up to date. Exit status: 0 done, or with --check"
        " unchanged and current; 1 not so; 2 wrongly called.",
    )
    parser.add_argument(
        "dest", metavar="DEST", help="directory of the copy; its name is the name of the package"
    )
    parser.add_argument(
        "--with",
        dest="adapters",
        action="append",
        default=[],
        choices=ADAPTERS,
        help="copy this adapter too; can be repeated; an update keeps the adapters that the copy has",
    )
    parser.add_argument(
        "--check", action="store_true", help="only say whether the copy was changed or is out of date"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that were changed in the copy")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what was asked for and return the exit status."""
    try:
        if not options.check:
            return vendor(options.dest, options.adapters, options.force)
        if options.force or options.adapters:
            raise Refusal("--check changes nothing, so --force and --with make no sense with it", 2)
        return check(options.dest)
    except (Refusal, OSError) as exc:
        print(f"python -m wsframe vendor: {exc}", file=sys.stderr)
        return exc.status if isinstance(exc, Refusal) else 1


def vendor(shown: str, adapters: Iterable[str], force: bool) -> int:
    """Make a copy, or bring one up to date."""
    dest = destination(shown)
    before = read_stamp(dest)
    if before is None and dest.exists():
        raise Refusal(f"{shown} exists and is not a copy of wsframe: it has no {STAMP}", 2)
    parts = {*adapters, *(before.adapters if before else ())}
    if missing := parts.difference(ADAPTERS):
        raise Refusal(f"{shown} has {', '.join(sorted(missing))}, which this wsframe has not")
    contents = current_files(parts)
    stamp = stamp_of(contents, parts, current_commit())
    if before is None:
        put(dest, {**contents, STAMP: stamp.dump()}, [])
        print(f"copied {stamp} to {shown}: {len(contents)} files")
    else:
        update(dest, shown, before, stamp, contents, force)
    explain(dest, stamp)
    return 0


def update(
    dest: Path, shown: str, before: Stamp, stamp: Stamp, contents: dict[str, bytes], force: bool
) -> None:
    """Bring a copy up to date. Nothing that its owner did is lost without `force`."""
    found = hashes(dest)
    in_the_way = [
        name
        for name, value in found.items()
        if (name in before.files or name in stamp.files)
        and value not in (before.files.get(name), stamp.files.get(name))
    ]
    if in_the_way and not force:
        raise Refusal(
            f"{shown} was changed since it was copied, and nothing was done: {', '.join(in_the_way)}."
            " Take the changes out, or overwrite them with --force"
        )
    foreign = [name for name in found if name not in before.files and name not in stamp.files]
    # An extension that was built from another source would be loaded all the same, and would not fit.
    built = products(dest)
    stale = built if before.extensions != stamp.extensions else []
    put(dest, {**contents, STAMP: stamp.dump()}, {*foreign, *built}.difference(stale))

    gone = [name for name in before.files if name not in stamp.files]
    print(f"updated {shown} from {before} to {stamp}: {len(contents)} files")
    for name in gone:
        print(f"removed {name}, which is no longer part of it")
    for name in stale:
        print(f"removed {name}, which was built from the former copy: build it again")
    for name in foreign:
        print(f"kept {name}, which is not from wsframe")


def explain(dest: Path, stamp: Stamp) -> None:
    """Say how to use the copy, and how to have it compiled."""
    (*packages, name), source = names(dest)
    package = ".".join(packages)
    print(f"use it: {f'from {package} ' if package else ''}import {name}")
    extensions = [file.removesuffix(".pyx") for file in stamp.files if file.endswith(".pyx")]
    if extensions:
        print(
            "It works as it is. To have its hot parts compiled as well, put Cython>=3.1 among the build requirements\n"
            "and this line into the setup() of setup.py, after `from setuptools import Extension, setup`:\n\n"
            f"    {extension_line(f'{package}.{name}'.lstrip('.'), source, extensions)}\n"
        )


def extension_line(module: str, source: str, extensions: Iterable[str]) -> str:
    """The line that compiles a copy's extension modules. setuptools calls Cython by itself where it finds a .pyx."""
    calls = [
        f'Extension("{module}.{name}", ["{source}/{name}.pyx"], extra_compile_args=["-O3"])'
        for name in extensions
    ]
    return f"ext_modules=[{', '.join(calls)}],"


def check(shown: str) -> int:
    """Say what is different from the day of copying, and from what a copy would be today."""
    dest = destination(shown)
    stamp = read_stamp(dest)
    if stamp is None:
        why = f"it has no {STAMP}" if dest.exists() else "it does not exist"
        raise Refusal(f"{shown} is not a copy of wsframe: {why}", 2)
    found = hashes(dest)
    problems = []
    for name in sorted({*stamp.files, *found}):
        if name not in found:
            problems.append(f"{name} is missing")
        elif name not in stamp.files:
            problems.append(f"{name} was added: it is not from wsframe")
        elif found[name] != stamp.files[name]:
            problems.append(f"{name} was changed")
    today = stamp_of(current_files([name for name in stamp.adapters if name in ADAPTERS]), stamp.adapters)
    if stamp.version != today.version:
        problems.append(f"out of date: copied from wsframe {stamp.version}, and this is {today.version}")
    elif stamp.files != today.files:
        differing = sorted({name for name, _ in stamp.files.items() ^ today.files.items()})
        problems.append(
            f"out of date: this wsframe {today.version} differs from it in {', '.join(differing)}"
        )
    for problem in problems:
        print(f"{shown}: {problem}")
    if not problems:
        print(f"{shown}: unchanged and current, {stamp}")
    return 1 if problems else 0


def destination(shown: str) -> Path:
    """The absolute path of the copy; the name of its package must be one that can be imported."""
    # Not resolve(): a link would be replaced, and what it points to would stay as it was.
    dest = Path(os.path.abspath(shown))
    if dest.is_symlink():
        raise Refusal(f"{shown} is a symbolic link: name the directory that it points to", 2)
    if dest == PACKAGE or PACKAGE in dest.parents:
        raise Refusal(f"{shown} lies in wsframe itself", 2)
    for name in names(dest)[0]:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise Refusal(f"{shown}: {name!r} cannot be the name of a package", 2)
    return dest


def names(dest: Path) -> tuple[tuple[str, ...], str]:
    """The names of the packages down to the copy, and its path as seen from where its host is built.

    The outermost package is the highest directory below the project's that has an `__init__.py`, or is yet to be made;
    there may be some without one between it and the copy.
    """
    above = list(dest.parents)
    project = next((path for path in above if any((path / name).exists() for name in PROJECT_FILES)), None)
    if project is not None:
        above = above[: above.index(project)]
    packages = [path for path in above if (path / "__init__.py").exists() or not path.exists()]
    root = packages[-1].parent if packages else dest.parent
    return dest.relative_to(root).parts, dest.relative_to(project or root).as_posix()
