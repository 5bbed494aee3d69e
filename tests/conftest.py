"""What every test gets: Hypothesis profiles, the codecs, and peers that may not be missing where they are asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="session", params=["python"])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    """A frame codec: what is true of one is true of all of them."""
    from wsframe import _codec_py

    return {"python": _codec_py}[request.param]


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
    """With ``WSFRAME_REQUIRE_PEERS=1``, a test marked ``peer`` fails where it would have been skipped."""
    report = yield
    if (
        report.skipped
        and os.environ.get("WSFRAME_REQUIRE_PEERS") == "1"
        and item.get_closest_marker("peer") is not None
        and not hasattr(report, "wasxfail")
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"WSFRAME_REQUIRE_PEERS=1, but: {reason}"
    return report
