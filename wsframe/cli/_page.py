"""The page that a person's browser gets from `serve`: one file, no other resources, nothing that it could load."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import re
from collections.abc import Sequence

from .._backend import backend_description
from .._http import Response
from .._version import __version__

__all__ = ["page_response"]


def page_response(subprotocols: Sequence[str], max_size: int) -> Response:
    """The page as an HTTP response.

    Args:
        subprotocols: what the server supports.
        max_size: bytes of the largest message that it takes.
    """
    values = {
        "version": __version__,
        "backend": backend_description,
        "subprotocols": ",".join(subprotocols),
        "max_size": str(max_size),
    }
    source = importlib.resources.files(__package__).joinpath("_page.html").read_text("utf-8")
    # In one go, so that nothing in a value is taken for a name.
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: html.escape(values[found[1]]), source)
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", _policy(text)),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ]
    return Response(200, headers=headers, body=text.encode())


def _policy(text: str) -> str:
    """Only this script and this style run, and they reach only the server that they came from."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash_of('script', text)}",
            f"style-src {_hash_of('style', text)}",
            # The icon, which is empty, so that browsers ask for none.
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash_of(tag: str, text: str) -> str:
    """A source expression for the one inline element with that tag."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
