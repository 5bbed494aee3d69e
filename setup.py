"""Everything that can be said as data is in pyproject.toml; here is whether the codec is compiled.

WSFRAME_BUILD_EXT=1 must build it, WSFRAME_BUILD_EXT=0 must not; unset, it is built where that works.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup

wanted = os.environ.get("WSFRAME_BUILD_EXT", "")
if wanted not in ("", "0", "1"):
    sys.exit(f"WSFRAME_BUILD_EXT must be 1 (build), 0 (do not) or unset (if possible), not {wanted!r}")


def extensions() -> list[Extension]:
    """The compiled codec, or nothing."""
    if wanted == "0":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if wanted == "1":
            raise
        print("Cython is missing: the codec is not compiled")
        return []
    codec = Extension(
        "wsframe._codec",
        ["wsframe/_codec.pyx"],
        depends=["wsframe/_codec.h"],
        # gcc vectorises the masking loops fully only from here on.
        extra_compile_args=[] if sys.platform == "win32" else ["-O3"],
    )
    try:
        found = cythonize([codec])
    except Exception as exc:
        # Such as a source tree that cannot be written to.
        if wanted == "1":
            raise
        print(f"Cython failed, the codec is not compiled: {exc!r}")
        return []
    for extension in found:
        # Without a compiler the installation goes on, and the pure codec is used. (Said here, for cythonize makes new
        # objects and forgets it.)
        extension.optional = wanted != "1"
    return found


setup(ext_modules=extensions())
