"""``docs/endings.md`` is what the table says."""

from __future__ import annotations

import dataclasses
import re

from endings_page import COMPARISON, PAGE, current_page
from wsframe import Disconnected
from wsframe.testing.lifecycle import ROWS, endings_page


def test_the_page_has_not_drifted() -> None:
    assert PAGE.read_text(encoding="utf-8") == current_page(), "run: python tests/endings_page.py"


def test_every_row_is_on_the_page() -> None:
    page = current_page()
    for row in ROWS:
        slug = row.name.partition("/")[2]
        (line,) = [
            line
            for line in page.splitlines()
            if re.search(rf"\(`{slug}`(, |\) \| )({row.role.value}|both)\b", line)
        ]
        assert row.what in line
        if row.same_as is None:
            assert f"| {row.cause.name} |" in line
        else:
            assert row.because is not None
            assert line.endswith(row.because)


def test_every_field_is_explained() -> None:
    fields = current_page().partition("## What an ending says")[2].partition("\n\nIn words")[0]
    for field in dataclasses.fields(Disconnected):
        assert f"`{field.name}`" in fields


def test_tables_are_whole() -> None:
    """Each line of a table has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", current_page(), re.MULTILINE):
        cells = {line.count(" | ") for line in table.splitlines()}
        assert len(cells) == 1, table[:200]


def test_where_the_comparison_stands() -> None:
    """It is the end of the page, and nothing stands there without one."""
    without = endings_page()
    assert without.endswith(f"docs/{COMPARISON.name} -->\n")
    assert endings_page("## Others\n\nsay less\n") == f"{without}\n## Others\n\nsay less\n"
