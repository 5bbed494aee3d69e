"""``python -m wsframe serve``: an echo server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import Callable
from typing import Any

from .._backend import backend_description
from .._errors import WsframeError
from .._events import Disconnected
from .._http import Request, Response
from .._negotiate import ANY_ORIGIN, SAME_HOST
from .._version import __version__
from ..aio import Server, WebSocket, serve
from ._page import page_response

__all__ = ["add_parser"]

DEFAULT_MAX_SIZE = 16 << 20

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "serve",
        help="run an echo server",
        description="Run an echo server until Ctrl-C or SIGTERM, which close with 1001.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, default=8765, help="TCP port; 0 picks a free one")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain (PEM), for wss")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, if not in the same file")
    parser.add_argument(
        "--max-size", type=_positive, default=DEFAULT_MAX_SIZE, metavar="BYTES", help="largest message"
    )
    parser.add_argument(
        "--compression",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compress when a client offers permessage-deflate",
    )
    parser.add_argument(
        "--subprotocol",
        action="append",
        default=[],
        metavar="NAME",
        help="support it; repeat in order of preference",
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        help="let browsers in that show pages of this origin, such as https://example.org, or 'any'; can be repeated;"
        " without it the origin must be the server's own host",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="a line for every connection when it ends"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes; return the exit status."""
    context = None
    if options.tls_key and not options.tls_cert:
        return _complain("--tls-key needs --tls-cert", 2)
    if options.tls_cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(options.tls_cert, options.tls_key)
        except (OSError, ssl.SSLError) as exc:
            return _complain(f"cannot load the certificate {options.tls_cert}: {exc}", 2)
    return asyncio.run(_serve(options, context))


async def _serve(options: argparse.Namespace, context: ssl.SSLContext | None) -> int:
    try:
        server = await serve(
            _echo,
            options.host,
            options.port,
            ssl=context,
            origins=ANY_ORIGIN if "any" in options.origin else options.origin or SAME_HOST,
            subprotocols=options.subprotocol,
            compression=options.compression,
            max_message_size=options.max_size,
            on_request=_page_for(options),
            on_end=_report if options.verbose else None,
        )
    except OSError as exc:
        return _complain(f"cannot listen on {options.host} port {options.port}: {exc.strerror or exc}", 1)
    except (ValueError, WsframeError) as exc:
        return _complain(str(exc), 2)
    async with server:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            # Windows has no such handlers; Ctrl-C arrives there as KeyboardInterrupt.
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, stop.set)
        _banner(server, context is not None)
        await stop.wait()
        # The next one does what it always does.
        for number in _SIGNALS:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
        print("closing", flush=True)
        await server.close(1001, "server is going away")
    return 0


async def _echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


def _page_for(options: argparse.Namespace) -> Callable[[Request], Response | None]:
    """A person's browser gets a page to try the server with, instead of 426."""
    page = page_response(options.subprotocol, options.max_size)

    def answer(request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        if request.method not in ("GET", "HEAD"):
            return Response(405, headers=[("Allow", "GET, HEAD")], body=b"this is a WebSocket echo server\n")
        return page

    return answer


def _banner(server: Server, secure: bool) -> None:
    print(f"wsframe {__version__}, {backend_description} codec: echo server, Ctrl-C stops it", flush=True)
    for sock in server.sockets:
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"listening on {'wss' if secure else 'ws'}://{shown}:{port}/", flush=True)
        print(f"a page to try it is at {'https' if secure else 'http'}://{shown}:{port}/", flush=True)


def _report(request: Request | None, address: Any, ending: Disconnected) -> None:
    peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
    target = "-" if request is None else request.target
    print(f"{peer} {target}: {ending}", flush=True)


def _complain(text: str, status: int) -> int:
    print(f"python -m wsframe serve: {text}", file=sys.stderr)
    return status


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number") from None
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {port}")
    return port


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes") from None
    if number <= 0:
        raise argparse.ArgumentTypeError(f"must be over 0, not {number}")
    return number
