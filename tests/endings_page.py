"""Write ``docs/endings.md`` from the endings table: ``python tests/endings_page.py``.

What other libraries tell their applications, as found by ``python -m wsframe lifecycle``, is in
``docs/_endings_comparison.md`` and ``docs/_endings_uvicorn.md``, which become a part of the page.
"""

from __future__ import annotations

from pathlib import Path

from wsframe.testing.lifecycle import endings_page

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "endings.md"
COMPARISON = DOCS / "_endings_comparison.md"
ON_UVICORN = DOCS / "_endings_uvicorn.md"


def current_page() -> str:
    """What the page has to be."""
    parts = [page.read_text(encoding="utf-8").strip() for page in (COMPARISON, ON_UVICORN) if page.exists()]
    return endings_page("\n\n".join(parts))


if __name__ == "__main__":
    PAGE.write_text(current_page(), encoding="utf-8")
