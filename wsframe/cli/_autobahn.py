"""``python -m wsframe autobahn``: run the Autobahn|Testsuite from a checkout."""

from __future__ import annotations

from ._checkout import Program

__all__ = ["add_parser"]

add_parser = Program("autobahn", "run.py", "wstest_main.py", "run the Autobahn|Testsuite").add_parser
