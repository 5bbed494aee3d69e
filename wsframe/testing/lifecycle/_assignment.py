"""What a driver is told before a row begins."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..._config import Limits
from ._acts import (
    Answer,
    ApplicationAct,
    Block,
    CallAbort,
    CallClose,
    CallSend,
    Cancel,
    Raise,
    Return,
    Shutdown,
)
from ._row import Row

__all__ = ["ACTS", "acts_of", "answer_of", "settings_of"]

#: What happens to an application: the names of a driver's acts.
ACTS: dict[type[ApplicationAct], str] = {
    CallAbort: "abort",
    CallClose: "close",
    CallSend: "send",
    Cancel: "cancel",
    Raise: "raise",
    Return: "return",
    Shutdown: "shutdown",
}


def acts_of(row: Row) -> list[str]:
    """What a driver will be told to do in this row."""
    if not row.opens:
        # There is no handler yet, so these are the answer to the request.
        return [
            ACTS[type(act)]
            for act in row.application_acts
            if isinstance(act, (Shutdown, CallAbort, CallClose))
        ]
    return [ACTS[type(act)] for act in row.application_acts if type(act) in ACTS]


def settings_of(row: Row) -> dict[str, Any]:
    """The settings in JSON. Keepalive is off where the row does not speak of it: a slow machine must not wake it."""
    settings: dict[str, Any] = {"ping_interval": None, **row.settings}
    if settings.get("compression"):
        settings["compression"] = True
    if isinstance(limits := settings.get("limits"), Limits):
        standard = Limits()
        settings["limits"] = {
            name.name: getattr(limits, name.name)
            for name in fields(Limits)
            if getattr(limits, name.name) != getattr(standard, name.name)
        }
    return settings


def answer_of(row: Row) -> dict[str, Any]:
    """What a server's application does with the request."""
    for act in row.application_acts:
        if isinstance(act, Answer):
            return {"answer": act.status, "body": act.body.decode()}
        if isinstance(act, Block):
            return {"answer": "nothing"}
        if isinstance(act, Raise) and not row.opens:
            return {"answer": "raise"}
    return {}
