"""Everything that can be said as data is in pyproject.toml; here is what is compiled, and whether.

Every `wsframe/_NAME.pyx` is an extension module, and each has a twin in Python. WSFRAME_BUILD_EXT=1 must build them,
WSFRAME_BUILD_EXT=0 must not; unset, each is built where that works.
"""

from __future__ import annotations

import os
import sys
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

wanted = os.environ.get("WSFRAME_BUILD_EXT", "")
if wanted not in ("", "0", "1"):
    sys.exit(f"WSFRAME_BUILD_EXT must be 1 (build), 0 (do not) or unset (if possible), not {wanted!r}")


def extensions() -> list[Extension]:
    """What is to be compiled, or nothing."""
    if wanted == "0":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if wanted == "1":
            raise
        print("Cython is missing: nothing is compiled")
        return []
    found: list[Extension] = []
    for source in sorted(glob("wsframe/_*.pyx")):
        if sys.platform == "win32" and Path(source).stem == "_fastpath":
            # It is made of POSIX system calls, for event loops that Windows does not have.
            continue
        module = Extension(
            f"wsframe.{Path(source).stem}",
            [source],
            depends=sorted(glob("wsframe/_*.h")),
            # gcc vectorises the masking loops fully only from here on.
            extra_compile_args=[] if sys.platform == "win32" else ["-O3"],
        )
        try:
            found += cythonize([module])
        except Exception as exc:
            # Such as a source tree that cannot be written to.
            if wanted == "1":
                raise
            print(f"Cython failed, {source} is not compiled: {exc!r}")
    for extension in found:
        # Without a compiler the installation goes on, and the twin is used. (Said here, for cythonize makes new objects
        # and forgets it.)
        extension.optional = wanted != "1"
    return found


setup(ext_modules=extensions())
