"""Judging results: what counts as success, and which setting explains a failure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cases import all_cases, category, sort_key

#: What a case that never ended is recorded as; the suite has no word for it.
MISSING = "MISSING"
#: The Close code for a frame that is masked although it must not be, or the other way round.
PROTOCOL_ERROR = 1002
TOO_BIG = 1009
HUNG = (
    "neither the peer nor the suite said anything more; the suite waits like this for a peer that has sent Close "
    "and keeps the TCP connection open"
)


@dataclass(frozen=True)
class Result:
    """How one case ended, as the suite saw it."""

    case: str
    behavior: str
    behavior_close: str
    #: The code in the Close frame that the peer under test sent, if it sent one.
    remote_close_code: int | None
    #: Milliseconds.
    duration: int
    #: The other fields of the suite's result (see RESULT_FIELDS in wstest_main.py).
    details: Mapping[str, Any]

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Result:
        """Return the result that a "done" event carries."""
        return cls(
            case=event["case"],
            behavior=event["behavior"],
            behavior_close=event["behaviorClose"],
            remote_close_code=event["remoteCloseCode"],
            duration=event["duration"],
            details=event,
        )


@dataclass(frozen=True)
class Problem:
    """Why one case is not as expected."""

    case: str
    #: What the suite says, or MISSING.
    behavior: str
    behavior_close: str
    text: str


def judge(case: str, result: Result | None, *, wrong_masking: bool, why_missing: str = "") -> Problem | None:
    """Return why the case is not as expected, or None when it is."""
    if result is None:
        return Problem(case, MISSING, MISSING, why_missing or "it was not run")
    complaint = (
        masking_complaint(result) if wrong_masking else complaint_about(result, all_cases()[case].expected)
    )
    return Problem(case, result.behavior, result.behavior_close, complaint) if complaint else None


def complaint_about(result: Result, expected: str) -> str:
    """Return what is wrong with a result in words, or an empty string."""
    if expected == "INFORMATIONAL":
        # For these the suite overwrites both verdicts, so anything else means that it is not the suite we know.
        if (result.behavior, result.behavior_close) == ("INFORMATIONAL", "INFORMATIONAL"):
            return ""
        return f"expected INFORMATIONAL, got {result.behavior} and {result.behavior_close}"
    if (result.behavior, result.behavior_close) == ("OK", "OK"):
        return ""
    parts = []
    if result.behavior == "NON-STRICT":
        parts.append("tolerated by the suite, but not what the RFC recommends")
    elif result.behavior != "OK":
        parts.append(str(result.details.get("result", "")))
    if result.behavior_close != "OK":
        parts.append(str(result.details.get("resultClose", "")))
    if result.remote_close_code is not None:
        parts.append(
            f"Close {result.remote_close_code} {result.details.get('remoteCloseReason') or ''}".strip()
        )
    return "; ".join(" ".join(part.split()).rstrip(".") for part in parts if part) or "no reason given"


def masking_complaint(result: Result) -> str:
    """Return what is wrong with the answer to a wrongly masked frame, or an empty string.

    What the suite expects of the case does not matter here, since it expects its frames to be accepted. Of what
    it records, the peer's Close code and the number of messages that came back can be relied upon.
    """
    echoed = result.details.get("received", 0)
    if echoed:
        return f"{echoed} wrongly masked frame(s) were accepted and answered"
    if result.remote_close_code is None:
        return f"the connection ended without a Close frame, expected Close {PROTOCOL_ERROR}"
    if result.remote_close_code != PROTOCOL_ERROR:
        return f"Close {result.remote_close_code}, expected {PROTOCOL_ERROR}"
    if result.details.get("closedByMe"):
        return "the suite had to close the connection"
    return ""


def explanations(problems: Iterable[Problem], results: Mapping[str, Result]) -> list[str]:
    """Return one sentence for each setting or habit that explains some of the problems."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        text = explain(problem, results.get(problem.case))
        if text:
            found.setdefault(text, []).append(problem.case)
    return [f"{summary(cases)}: {text}" for text, cases in found.items()]


def explain(problem: Problem, result: Result | None) -> str:
    """Return what probably lies behind one problem, or an empty string."""
    chapter = category(problem.case)
    if result is None:
        return HUNG if "it hung" in problem.text else ""
    if problem.behavior == "UNIMPLEMENTED" and chapter in (12, 13):
        return "permessage-deflate was not negotiated; turn compression on (compression=True)"
    if result.remote_close_code == TOO_BIG:
        return (
            "the peer refused the message as too big (1009); raise its size limit: max_message_size must be "
            "at least 16 MiB (16777216) and max_fragments at least 65536"
        )
    if result.details.get("wasOpenHandshakeTimeout") or "handshake was never completed" in problem.text:
        return "the opening handshake did not succeed; look at allowed origins, subprotocols and the path"
    if problem.behavior_close == "FAILED BY CLIENT":
        return "the server must drop the TCP connection after the closing handshake, and waited for the client to do it"
    if problem.behavior_close == "UNCLEAN":
        return "the TCP connection ended before both Close frames were exchanged"
    if chapter == 6 and problem.behavior == "NON-STRICT":
        return "invalid UTF-8 is found only at the end of the frame or message; check the text as it arrives"
    if problem.behavior == "NON-STRICT" and chapter in (2, 3, 4, 5):
        return "what came before the bad frame must be answered before the failing Close; it was dropped"
    # The suite's text for a case that is not over says so from the case's beginning.
    time_up = re.search(r"[Dd]id not (?:finish|receive message) within (\d+) seconds", problem.text)
    if time_up and result.duration < 900 * int(time_up[1]):
        return "the peer ended the connection in the middle of the case; logs/ beside the case's report may say why"
    if time_up:
        return "the suite's own time for the case was up; the peer or this machine is too slow, or messages got lost"
    return ""


def summary(case_ids: Iterable[str]) -> str:
    """Return a few ids in full and many as a number per chapter."""
    ids = sorted(case_ids, key=sort_key)
    if len(ids) <= 8:
        return ", ".join(ids)
    chapters: dict[int, int] = {}
    for case_id in ids:
        chapters[category(case_id)] = chapters.get(category(case_id), 0) + 1
    return (
        f"{len(ids)} cases ("
        + ", ".join(f"{number} of {chapter}.x" for chapter, number in chapters.items())
        + ")"
    )
