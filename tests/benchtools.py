"""What the tests of the benchmarks share: their C programs, compiled once."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bench_generator import Programs


def skip_without_programs() -> None:
    """Skip a whole file where the C programs cannot be made or run."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the load generator needs Linux", allow_module_level=True)
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("the load generator needs a C compiler", allow_module_level=True)
    pytest.importorskip("rich")


@functools.cache
def programs() -> Programs:
    """The C programs, compiled as they are now and not in an earlier run."""
    from bench_generator import Programs

    directory = tempfile.mkdtemp(prefix="wsframe-bench-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "XDG_CACHE_HOME", directory)
        return Programs()
