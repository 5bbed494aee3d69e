"""Drivers of the lifecycle suite: small applications, one for each library, that say what they were told."""

from __future__ import annotations

from ._driver import Assignment, AsyncDriver, Cannot, ThreadDriver, message_text, run

__all__ = ["Assignment", "AsyncDriver", "Cannot", "ThreadDriver", "message_text", "run"]
