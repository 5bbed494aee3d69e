"""Run the tests, and those few that failed once more; a few talk over sockets against the clock.

Usage: check_tests.py COMMAND AGAIN SUMMARY. COMMAND is the shell command that runs all tests, AGAIN the one that runs
only those that failed last. On a machine that stands still for a while a test may fail; a test that fails twice is
wrong. Whatever else goes wrong (many failures, a crash, an error of collection) is not tried again.

SUMMARY is written with what is to be said in the end: pytest's closing line of the last run, and above it, where there
was a second run, which tests needed that, and the closing line of the first. The exit status is that of the last run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

#: More failures than these are not an accident.
FEW = 5
#: pytest's exit status when tests failed and nothing else was wrong.
TESTS_FAILED = 1
#: Where pytest keeps what --last-failed runs, below the directory that the tests are run in.
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")
#: What pytest-xdist says of a test in which the process died.
CRASHED = "crashed while running"


def main() -> None:
    command, again, summary = sys.argv[1:]
    status, output = run(command)
    first = closing = closing_line(output)
    words = []
    failed = failures() if status == TESTS_FAILED else []
    if status == 0 and not passed(closing):
        raise SystemExit("no test has passed")
    # What is not in a test is a file that could not even be read.
    if 0 < len(failed) <= FEW and all("::" in name for name in failed) and CRASHED not in output:
        print(f"\nOnly {len(failed)} failed. Once more:", *failed, sep="\n    ", flush=True)
        status, output = run(again)
        closing = closing_line(output)
        if status == 0 and passed(closing) != len(failed):
            print(f"{len(failed)} should have passed", flush=True)
            status = TESTS_FAILED
        outcome = "did not all pass" if status else "passed"
        words = [f"failed at first ({first.strip('= ')}), and {outcome} when they were run again:"]
        words += [f"    {name}" for name in failed]
    Path(summary).write_text("\n".join([*words, closing]) + "\n", encoding="utf-8")
    if not closing:
        raise SystemExit(f"the tests have no closing line (exit status {status})")
    raise SystemExit(status)


def run(command: str) -> tuple[int, str]:
    """Run a shell command and show what it prints while it runs; return its exit status and what that was."""
    lines = []
    with subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    return process.returncode, "".join(lines)


def closing_line(output: str) -> str:
    """pytest's last line, such as ``=== 14864 passed, 6 skipped in 320.00s ===``, or ""."""
    last = output.rstrip("\n").rpartition("\n")[2]
    return last if re.fullmatch(r"=+ .*\d \w+ in \d.*=+", last) else ""


def passed(closing: str) -> int:
    """How many tests have passed, by a closing line."""
    found = re.search(r"\b(\d+) passed\b", closing)
    return int(found[1]) if found else 0


def failures() -> list[str]:
    """The names of the tests that failed, as pytest has kept them."""
    return sorted(json.loads(LAST_FAILED.read_text(encoding="utf-8"))) if LAST_FAILED.exists() else []


if __name__ == "__main__":
    main()
