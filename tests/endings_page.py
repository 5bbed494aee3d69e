"""Write ``docs/endings.md`` from the endings table: ``python tests/endings_page.py``.

What other libraries tell their applications, as found by ``python -m wsframe lifecycle``, is in
``docs/_endings_comparison.md`` and becomes a part of the page.
"""

from __future__ import annotations

from pathlib import Path

from wsframe.testing.lifecycle import endings_page

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "endings.md"
COMPARISON = DOCS / "_endings_comparison.md"


def current_page() -> str:
    """What the page has to be."""
    return endings_page(COMPARISON.read_text(encoding="utf-8") if COMPARISON.exists() else "")


if __name__ == "__main__":
    PAGE.write_text(current_page(), encoding="utf-8")
