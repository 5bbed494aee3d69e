"""``python -m wsframe bench``: measure wsframe and its peers, from a checkout."""

from __future__ import annotations

from ._checkout import Program

__all__ = ["add_parser"]

add_parser = Program("bench", "bench_main.py", "bench_worker.py", "measure wsframe and its peers").add_parser
