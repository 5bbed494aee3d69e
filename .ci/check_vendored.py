"""Vendor the core into another package, under another name, and run the tests of the core on the copy.

Usage: check_vendored.py CHECKOUT DIRECTORY [--compiled]. The interpreter must have what the tests need and must not
have wsframe, so that whatever in the core names its own package fails.

The copy is made by ``python -m wsframe vendor``, and compiled with the line that it prints. A test belongs to the core
when it imports nothing else of ours and starts no process. Its text is rewritten, not its import machinery: what a
host's own code would say is what runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "host_app._vendor.ws"

SMOKE = """
import framebuilder as fb
from host_app._vendor import ws

server = ws.Server()
request = fb.client_handshake_request("/chat", host="localhost")
(event,) = server.receive_data(request)
assert isinstance(event, ws.RequestReceived), event
(event,) = server.accept()
assert isinstance(event, ws.Opened), event
response = b"".join(server.data_to_send())
assert response.startswith(b"HTTP/1.1 101 "), response
assert fb.accept_for(fb.SAMPLE_KEY).encode() in response, response

(event,) = server.receive_data(fb.build(fb.TEXT, b"Hello", mask=fb.SAMPLE_MASK))
assert isinstance(event, ws.Message) and event.data == "Hello", event
server.connection.send_text(event.data)
assert b"".join(server.data_to_send()) == fb.build(fb.TEXT, b"Hello")

server.receive_data(fb.build(fb.CLOSE, fb.close_payload(1000), mask=fb.SAMPLE_MASK))
assert b"".join(server.data_to_send()) == fb.build(fb.CLOSE, fb.close_payload(1000))
(event,) = server.transport_closed()
assert isinstance(event, ws.Disconnected) and event.clean, event

import sys
assert ws.backend == sys.argv[1], ws.backend
strays = [name for name in sys.modules if name.partition(".")[0] == "wsframe"]
assert not strays, strays
print("handshake, echo and closing handshake:", event)
"""


def is_core_test(source: str, above_core: list[str]) -> bool:
    """Whether a test is about the core and nothing else of ours, and does no I/O."""
    if not re.search(r"^\s*(from|import) wsframe\b", source, re.MULTILINE):
        return False
    if re.search(
        # The modules named ...helpers are about adapters and commands.
        r"^\s*(from|import) (asyncio|socket|subprocess|autobahn|bench\w*|test_\w+|examples|\w+helpers)\b",
        source,
        re.MULTILINE,
    ):
        return False
    return not re.search(rf"\bwsframe(\.|/| import (.*\W)?)({'|'.join(above_core)})\b", source)


def rewrite(source: str) -> str:
    """Say the vendored name where the source says wsframe in an import."""
    source = re.sub(r"^(\s*)from wsframe\b", rf"\1from {NAME}", source, flags=re.MULTILINE)
    source = re.sub(
        r"^(\s*)import wsframe$", r"\1from host_app._vendor import ws as wsframe", source, flags=re.MULTILINE
    )
    return re.sub(r"^(\s*)import wsframe(\.\S+) as ", rf"\1import {NAME}\2 as ", source, flags=re.MULTILINE)


def modules(package: Path) -> set[str]:
    """The modules and packages directly in a package; those of a copy are the core."""
    return {path.stem for path in package.iterdir() if path.is_dir() or path.suffix in (".py", ".pyx")}


def copy_tests(checkout: Path, host: Path) -> list[str]:
    """Copy the tests of the core and what they stand on; return their names."""
    above_core = sorted(modules(checkout / "wsframe") - modules(host / NAME.replace(".", "/")))
    chosen: list[str] = []
    for path in sorted((checkout / "tests").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        name = path.relative_to(checkout).as_posix()
        if path.name.startswith("test_"):
            if not is_core_test(source, above_core):
                continue
            chosen.append(name)
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_text(rewrite(source), encoding="utf-8")
    # A copy has no kit for tests, and the frame builder needs nothing of wsframe.
    shutil.copy(checkout / "wsframe/testing/framebuilder.py", host / "tests")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    checkout, host = options.checkout.resolve(), options.directory.resolve()
    if importlib.util.find_spec("wsframe") is not None:
        raise SystemExit("wsframe is importable here, so the copy proves nothing")
    sys.path.insert(0, str(checkout / "tests/vendored_host"))
    building = importlib.import_module("building")
    host.mkdir(parents=True)
    printed = building.vendor(host / NAME.replace(".", "/"))
    print(printed)
    if options.compiled:
        building.build(host, building.extension_line(printed))
    building.vendor(host / NAME.replace(".", "/"), "--check")
    tests = copy_tests(checkout, host)
    if not tests:
        raise SystemExit("no test of the core was found")
    shutil.copy(checkout / "pyproject.toml", host)
    environment = {
        **os.environ,
        "WSFRAME_PURE_PYTHON": "0" if options.compiled else "1",
        "PYTHONPATH": os.pathsep.join([str(host), f"{host}/tests"]),
    }
    smoke = [sys.executable, "-W", "error", "-c", SMOKE, "cython" if options.compiled else "python"]
    subprocess.run(smoke, cwd=host, env=environment, check=True)
    print(f"tests of the core: {' '.join(tests)}", flush=True)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *tests], cwd=host, env=environment, check=False
    )
    raise SystemExit(run.returncode)


if __name__ == "__main__":
    main()
