"""HTTP/1.1 on bytes: bounded, strict readers and the writers (RFC 9112).

Both readers are fed and then asked::

    reader.feed(data)
    request = reader.next()        # None: more bytes are needed

They judge a message in the order of its bytes, however these were cut: every check belongs to one position in the
stream, and the first position that fails decides. All scanning goes on where it stopped, so the work is linear in
the bytes. Where RFC 9112 lets a recipient be lenient they are not: lenience is what makes two parsers disagree about
where a message ends.
"""

from __future__ import annotations

from ._reader import HttpError
from ._request import RequestReader
from ._response import ResponseReader
from ._write import encode_request, encode_response

__all__ = ["HttpError", "RequestReader", "ResponseReader", "encode_request", "encode_response"]
