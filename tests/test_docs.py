"""What the pages in docs/ show is true: blocks that are marked `run` are run.

The blocks of a page that begin with ```` ```python run ```` are one program, from top to bottom. In those that begin
with ```` ```sh run ```` each line is a command; a page's commands share a directory.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"

FENCE = re.compile(r"^```(\w+) run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The page's blocks to run: the number of the line before the first, and the text."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(2)), found[2])
        for found in FENCE.finditer(text)
        if found[1] == language
    ]


def pages(language: str) -> list[str]:
    return [page.name for page in sorted(DOCS.glob("*.md")) if blocks(page, language)]


def test_the_embedders_pages_have_examples() -> None:
    assert "integrate.md" in pages("python")
    assert "vendoring.md" in pages("sh")


@pytest.mark.parametrize("name", pages("python"))
def test_python_examples(name: str) -> None:
    namespace: dict[str, object] = {"__name__": name}
    for line, source in blocks(DOCS / name, "python"):
        # So that a traceback names the line of the page.
        exec(compile("\n" * line + source, str(DOCS / name), "exec"), namespace)


@pytest.mark.parametrize("name", pages("sh"))
def test_commands(name: str, tmp_path: Path) -> None:
    for _, text in blocks(DOCS / name, "sh"):
        for command in text.splitlines():
            arguments = shlex.split(command, comments=True)
            if not arguments:
                continue
            assert arguments[0] == "python", command
            subprocess.run([sys.executable, *arguments[1:]], cwd=tmp_path, check=True, timeout=60)
