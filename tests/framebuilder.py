"""`wsframe.testing.framebuilder` under a short name, which also the tests of a vendored copy use."""

from __future__ import annotations

from wsframe.testing.framebuilder import *  # noqa: F403
from wsframe.testing.framebuilder import __all__ as __all__
