"""Write `expected.json` anew: all the suite's case ids, each with its expected outcome and its cost.

    python autobahn/make_expected.py WSTEST [INDEX_JSON ...]

The ids come from the suite (WSTEST is its `wstest` script), the costs from the reports of earlier full runs
(the `index.json` in the output directory; the median where there are several). Needed only when the suite
gets a new version, or when the costs no longer balance the shards.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from pathlib import Path

from cases import HERE
from suite import from_wstest, list_cases

#: The suite runs these to see what happens, and calls every outcome INFORMATIONAL.
INFORMATIONAL = frozenset({"7.1.6", "7.13.1", "7.13.2"})


def costs(paths: list[Path]) -> dict[str, int]:
    """Return the median duration in milliseconds of every case in the given index files."""
    seen: dict[str, list[int]] = {}
    for path in paths:
        for agent in json.loads(path.read_text("utf-8")).values():
            for case_id, row in agent.items():
                seen.setdefault(case_id, []).append(row["duration"])
    return {case_id: round(statistics.median(values)) for case_id, values in seen.items()}


def main(arguments: list[str]) -> int:
    """Ask the suite for its cases and write the file."""
    if not arguments:
        print("usage: make_expected.py WSTEST [INDEX_JSON ...]", file=sys.stderr)
        return 2
    version, ids = asyncio.run(list_cases(from_wstest(arguments[0])))
    known = costs([Path(argument) for argument in arguments[1:]])
    lines = []
    for case_id in ids:
        row = {
            "expected": "INFORMATIONAL" if case_id in INFORMATIONAL else "OK",
            "cost": known.get(case_id, 0),
        }
        lines.append(f"  {json.dumps(case_id)}: {json.dumps(row)}")
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(f"{len(ids)} cases of suite {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
