"""What an HTTP/1.1 reader makes of some bytes, as one comparable value; for the tests of `wsframe._http11`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from wsframe._config import Limits
from wsframe._http import Request, Response
from wsframe._http11 import HttpError, RequestReader, ResponseReader

#: All that a caller can see.
Outcome = tuple[Any, ...]

LIMITS = Limits()
#: Small, for tables about limits.
TINY = Limits(max_header_line=32, max_header_bytes=100, max_header_count=2, max_body_size=5)


def error_outcome(error: HttpError) -> Outcome:
    return ("error", error.status, str(error), error.not_http, error.limit)


def next_or_error(reader: RequestReader | ResponseReader) -> Any:
    try:
        return reader.next()
    except HttpError as exc:
        return exc


def read_request(chunks: Iterable[bytes], limits: Limits = LIMITS) -> Outcome:
    reader = RequestReader(limits)
    found = None
    for chunk in chunks:
        reader.feed(chunk)
        result = next_or_error(reader)
        if isinstance(result, HttpError):
            assert next_or_error(reader) is result
            assert (reader.pending, reader.leftover) == (False, b"")
            return error_outcome(result)
        if result is not None:
            assert found is None
            found = result
    assert reader.leftover_size == len(reader.leftover)
    if found is None:
        return ("pending", reader.pending)
    return ("request", found, found.headers.raw, reader.leftover)


def read_responses(
    chunks: Iterable[bytes], limits: Limits = LIMITS, method: str = "GET", eof: bool = True
) -> Outcome:
    reader = ResponseReader(limits, request_method=method)
    seen: list[Any] = []
    error = None
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while (response := reader.next()) is not None:
                seen.append((response, response.headers.raw))
        if eof and (response := reader.feed_eof()) is not None:
            seen.append((response, response.headers.raw))
    except HttpError as exc:
        error = exc
    if error is not None:
        assert error.status is None
        assert next_or_error(reader) is error
        assert (reader.pending, reader.leftover) == (False, b"")
        return (*seen, *error_outcome(error), reader.partial())
    return (*seen, reader.truncated, reader.leftover, reader.pending, reader.partial())


def single(data: bytes) -> Iterator[bytes]:
    """One byte at a time."""
    for index in range(len(data)):
        yield data[index : index + 1]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut at these places, as far as they lie inside."""
    edges = [0, *sorted({min(place, len(data)) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def request_of(data: bytes) -> Request:
    outcome = read_request([data])
    assert outcome[0] == "request", outcome
    request = outcome[1]
    assert isinstance(request, Request)
    return request


def response_of(data: bytes, method: str = "GET") -> Response:
    response = read_responses([data], method=method)[0][0]
    assert isinstance(response, Response)
    return response
