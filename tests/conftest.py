"""What every test gets: Hypothesis profiles, the codecs, and peers that may not be missing where they are asked for."""

from __future__ import annotations

import collections
import gc
import importlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No deadline: how long one example takes says more about the machine than about the code, and the tests that care
# about work count it. A failure prints a blob that repeats it, also without the example database.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "ci",
    deadline=None,
    print_blob=True,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "default")


#: So many tests are between two times when what is kept of them is set aside.
_FREEZE_EVERY = 500

#: How many tests are over in this process.
_finished = itertools.count(1)

#: Tests that say the same whatever codec is loaded: they run once.
CODEC_INDEPENDENT = (
    "test_alive",
    "test_autobahn",
    "test_bench",
    "test_cli",
    # They have both in hand.
    "test_codec_differential",
    "test_codec_nomemory",
    "test_fastpath_differential",
    "test_conftest",
    "test_config",
    "test_deflate",
    "test_docs",
    "test_endings_page",
    "test_endings_table",
    "test_endings_told",
    # Its programs are processes.
    "test_examples",
    "test_extension",
    "test_failing_close",
    "test_framebuilder",
    "test_handlers",
    "test_http",
    "test_layers",
    "test_close_race",
    # Its drivers are processes, one for every codec.
    "test_lifecycle",
    "test_page",
    "test_pending_calls",
    "test_proxy",
    "test_readme",
    "test_redirect",
    "test_state",
    "test_testing",
    "test_timers",
    "test_uri",
    # They choose for themselves what the copy in the host is compiled to.
    "test_vendored_host",
)


def loaded_codecs() -> dict[str, ModuleType]:
    """The codecs of this process by name: the compiled one is missing where it was not built or is not wanted."""
    from wsframe import _backend, _codec_py

    codecs: dict[str, ModuleType] = {"python": _codec_py}
    if _backend.backend == "cython":
        # By the package's own name: it may be a vendored copy.
        codecs["cython"] = importlib.import_module("._codec", _backend.__package__)
    elif os.environ.get("WSFRAME_REQUIRE_CYTHON") == "1":
        raise pytest.UsageError(f"WSFRAME_REQUIRE_CYTHON=1, but the codec is: {_backend.backend_description}")
    return codecs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run everything that depends on the codec with each of them."""
    names = list(loaded_codecs())
    sample = (
        metafunc.module.__name__.startswith("test_sweep") and metafunc.config.getoption("--sweep") == "sample"
    )
    if sample or metafunc.module.__name__.startswith(CODEC_INDEPENDENT):
        names = names[-1:]
    metafunc.parametrize("codec", names, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def codec(request: pytest.FixtureRequest) -> Generator[ModuleType]:
    """A frame codec, in use by the whole package: what is true of one is true of all of them."""
    codecs = loaded_codecs()
    chosen = codecs[request.param]
    package = codecs["python"].__name__.rpartition(".")[0]
    leaves = {f"{package}.{name}" for name in ("_codec", "_codec_py", "_fastpath", "_fastpath_py")}
    twins = [chosen, importlib.import_module(chosen.__name__.replace("_codec", "_fastpath"))]
    replaced: list[tuple[ModuleType, str, object]] = []
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(f"{package}.") and module_name not in leaves:
            for twin in twins:
                for name in twin.__all__:
                    # The value classes are the same in both codecs; what works on them is exchanged.
                    if name in vars(module) and vars(module)[name] is not getattr(twin, name):
                        replaced.append((module, name, vars(module)[name]))
                        setattr(module, name, getattr(twin, name))
    yield chosen
    for module, name, value in replaced:
        setattr(module, name, value)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--sweep=all``: the tests in test_sweep_*.py leave nothing out."""
    parser.addoption("--sweep", choices=["sample", "all"], default="sample", help="how much the sweeps take")


@pytest.fixture
def everything(request: pytest.FixtureRequest) -> bool:
    """Whether a sweep leaves nothing out."""
    return bool(request.config.getoption("--sweep") == "all")


_swept_elsewhere: collections.Counter[str] = collections.Counter()


def _swept() -> dict[str, int]:
    """How many points the sweeps of this process have swept."""
    return dict(getattr(sys.modules.get("sweephelpers"), "swept", {}))


def pytest_collection_finish() -> None:
    """Most tests look for garbage, and that must not mean to look at all the thousands of them each time (0.3 s)."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logfinish() -> None:
    """Nor at what pytest keeps of those that are over."""
    if next(_finished) % _FREEZE_EVERY == 0:
        gc.collect()
        gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """pytest-xdist: what this process has to tell the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["swept"] = _swept()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """pytest-xdist: what a process has told."""
    _swept_elsewhere.update(getattr(node, "workeroutput", {}).get("swept", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many points were swept."""
    swept = _swept_elsewhere + collections.Counter(_swept())
    if swept:
        counts = "; ".join(f"{what}: {count}" for what, count in sorted(swept.items()))
        terminalreporter.write_line(f"swept points: {counts}")


@pytest.fixture(scope="session")
def node_environment() -> dict[str, str]:
    """The environment in which ``node`` can ``require("ws")``; skips the test where that is impossible.

    ``WSFRAME_NODE_PATH`` names the ``node_modules`` directory that has the package ``ws``; without it, node looks
    where it always looks.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    environment = dict(os.environ)
    if "WSFRAME_NODE_PATH" in environment:
        environment["NODE_PATH"] = environment["WSFRAME_NODE_PATH"]
    probe = subprocess.run(
        [node, "-e", "require('ws')"],
        env=environment,
        cwd=Path(__file__).parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if probe.returncode:
        pytest.skip("node has no package ws: npm install ws, and set WSFRAME_NODE_PATH to its node_modules")
    return environment


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``WSFRAME_REQUIRE_PEERS=1``, a test marked ``peer`` or ``browser`` fails where it would be skipped."""
    report = yield
    if (
        report.skipped
        and os.environ.get("WSFRAME_REQUIRE_PEERS") == "1"
        and any(item.get_closest_marker(name) is not None for name in ("peer", "browser"))
        and not hasattr(report, "wasxfail")
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"WSFRAME_REQUIRE_PEERS=1, but: {reason}"
    return report
