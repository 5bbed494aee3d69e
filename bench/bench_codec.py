"""`bench codec`: masking, building and parsing frames, without any I/O."""

from __future__ import annotations

from bench_basics import CPU_TIME, Panel
from bench_cases import CASES, GROUPS
from bench_command import Benchmark, Settings
from bench_contestants import CODEC
from bench_goals import CODEC as GOALS
from bench_pool import Pool, worker
from bench_subject import Subject

DESCRIPTION = """\
Measure the frame codec: masking, building and parsing, with both codecs, against memcpy and every peer that is
installed. How it is measured, and how to read the tables, stands in docs/performance.md. Exit status: 0 when
everything was measured, 1 when a contestant failed, 2 when it could not run as asked."""

PANELS = (
    Panel("Receiving text, 64 KiB chunks", ("parse/text/",)),
    Panel(
        "Receiving, other cases",
        ("parse/separate/", "parse/binary/", "parse/fragments/", "parse/unicode/", "parse/deflate/"),
        by_size=False,
    ),
    Panel("Building text frames, server", ("build/server/text/",)),
    Panel("Building text frames, client", ("build/client/text/",)),
    Panel("Sending through the connection, server", ("send/server/text/",)),
    Panel("Masking", ("mask/",)),
)


class CodecBenchmark(Benchmark):
    """Contestants are processes that measure themselves."""

    subject = Subject("codec", CASES, GROUPS, CODEC, CPU_TIME, GOALS, PANELS, alone=True)
    about = "mask, build and parse frames, without I/O"
    description = DESCRIPTION
    examples = "'parse', 'build/*/text/125' or '*/4K'"

    def start(self, settings: Settings, core: int | None) -> Pool:
        """Start a process for each contestant."""
        entries = self.subject.roster.entries
        commands = {name: worker(entries[name], core) for name in settings.names}
        return Pool(commands, settings.sample_ns)


BENCHMARK = CodecBenchmark()
