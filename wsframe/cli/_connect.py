"""``python -m wsframe connect``: a WebSocket client for people and for pipes."""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import ssl
import sys
import time
from typing import Any

from .._config import Timeouts
from .._errors import LocalProtocolError
from .._events import Disconnected
from .._uri import InvalidURI, WebSocketURI, parse_uri
from ..aio import ConnectError, InvalidProxy, WebSocket, connect
from ._console import Console
from ._explain import explain
from ._frame_log import FrameLog
from ._session import BadLine, Session, parse_line, stdin_is_terminal

__all__ = ["add_parser"]

DESCRIPTION = """\
Open a WebSocket. Each line that is typed is sent as a message, each message that comes is printed, and how the
connection ended is said at the end. Ctrl-D closes with 1000, Ctrl-C with 1001; a second Ctrl-C drops the connection.

In a pipe, the lines of stdin are sent, and at its end the connection stays until the answers have come (see --wait).
stdout gets messages and nothing else, one line each: control characters are escaped as in \\n, binary messages are
0x and hexadecimal digits. All else goes to stderr.
"""

EXIT_STATUS = """\
exit status:
  0    closed cleanly, with code 1000 or 1001 or none
  1    the WebSocket ended in another way, or --message got no answer
  2    wrong usage, or a line of a pipe that cannot be sent
  3    there never was a WebSocket: no connection, bad certificate, refused, no answer
  130  interrupted before there was one
"""

INTERRUPTED = 130


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "connect",
        help="talk to a server, by hand or in a pipe",
        description=DESCRIPTION,
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("uri", metavar="URL", help="such as ws://127.0.0.1:8765/ or wss://example.org/chat")
    opening = parser.add_argument_group("opening handshake")
    opening.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="NAME:VALUE",
        help="add a request header; can be repeated",
    )
    opening.add_argument(
        "--subprotocol",
        action="append",
        default=[],
        metavar="NAME",
        help="offer it; repeat in order of preference",
    )
    opening.add_argument("--origin", help="send this Origin header, as a browser would")
    opening.add_argument("--compression", action="store_true", help="offer permessage-deflate")
    trust = opening.add_mutually_exclusive_group()
    trust.add_argument(
        "--ca", metavar="FILE", help="for wss: trust the authorities in FILE (PEM), and not the system's"
    )
    trust.add_argument("--insecure", action="store_true", help="for wss: accept any certificate from anyone")
    talking = parser.add_argument_group("messages")
    talking.add_argument(
        "-m",
        "--message",
        action="append",
        metavar="TEXT",
        help="send this, wait for one message in answer, and leave; repeated, one after the other",
    )
    form = talking.add_mutually_exclusive_group()
    form.add_argument("--binary", action="store_true", help="send the bytes of lines as binary messages")
    form.add_argument(
        "--hex", action="store_true", help="lines are hexadecimal digits, sent as binary messages"
    )
    talking.add_argument(
        "--raw", action="store_true", help="write messages as they come: text and a newline, binary as it is"
    )
    talking.add_argument(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help="at the end of a pipe stay until no message has come for so long, which may be inf; without it,"
        " 5 seconds, or half a second once there was a message for each that was sent",
    )
    watching = parser.add_argument_group("watching")
    watching.add_argument(
        "--ping",
        type=_seconds,
        metavar="SECONDS",
        help="ping that often and print the round trips; 0 turns off the pings that are sent after 20 s of silence",
    )
    watching.add_argument("--show-handshake", action="store_true", help="print the request and the response")
    watching.add_argument("--frames", action="store_true", help="print every frame in both directions")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Talk, and return the exit status."""
    console = Console(raw=options.raw)
    if options.raw and console.out_is_terminal:
        console.error("--raw is for files and pipes: what comes could change the terminal")
        return 2
    try:
        uri = parse_uri(options.uri)
        messages = None
        if options.message is not None:
            messages = [_message(text, options) for text in options.message]
        context = _tls_context(options, uri)
        return asyncio.run(_connect(options, console, uri, context, messages))
    except (InvalidURI, LocalProtocolError, BadLine, _UsageError) as exc:
        console.error(str(exc))
        return 2


async def _connect(
    options: argparse.Namespace,
    console: Console,
    uri: WebSocketURI,
    context: ssl.SSLContext | None,
    messages: list[str | bytes] | None,
) -> int:
    log = None
    if options.frames or options.show_handshake:
        log = FrameLog(console.note, time.monotonic, handshake=options.show_handshake, frames=options.frames)
    opening = connect(
        options.uri,
        headers=options.header,
        origin=options.origin,
        subprotocols=options.subprotocol,
        ssl=context,
        compression=options.compression,
        tap=log,
        ping_interval=None if options.ping == 0 else Timeouts().ping_interval,
    )
    session: Session | None = None

    async def open_session() -> Session:
        nonlocal session
        websocket = await opening
        session = Session(
            websocket,
            console,
            messages=messages,
            binary=options.binary,
            hexadecimal=options.hex,
            wait=options.wait,
            ping=options.ping,
        )
        _greet(console, uri, websocket, interactive=messages is None and stdin_is_terminal())
        return session

    task = asyncio.create_task(open_session())

    def interrupt() -> None:
        if session is None:
            task.cancel()
        else:
            session.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            asyncio.get_running_loop().add_signal_handler(number, interrupt)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            break
    try:
        opened = await task
        ending = await opened.run()
    except asyncio.CancelledError:
        console.note("interrupted before the connection was open")
        return INTERRUPTED
    except ConnectError as exc:
        console.error(explain(exc, uri, own_trust=options.ca is not None))
        return exc.ending.exit_status
    except (InvalidProxy, ImportError) as exc:
        # Of the environment, or missing for what the environment says.
        console.error(str(exc))
        return 2
    finally:
        if log is not None:
            log.close()
    console.note(str(ending))
    return _exit_status(ending, opened)


def _greet(console: Console, uri: WebSocketURI, websocket: WebSocket, *, interactive: bool) -> None:
    text = f"connected to {uri}"
    if websocket.subprotocol is not None:
        text += f", subprotocol {websocket.subprotocol}"
    extensions = websocket.response.headers.get("Sec-WebSocket-Extensions") if websocket.response else None
    if extensions:
        text += f", {extensions}"
    console.note(f"{text} (Ctrl-D closes)" if interactive else text)


def _exit_status(ending: Disconnected, session: Session) -> int:
    if session.bad_input:
        return 2
    if session.unanswered:
        return 1
    return ending.exit_status


def _message(text: str, options: argparse.Namespace) -> str | bytes:
    # The command line's bytes, also those that are no UTF-8.
    line = text.encode(sys.getfilesystemencoding(), "surrogateescape")
    try:
        return parse_line(line, binary=options.binary, hexadecimal=options.hex)
    except BadLine as exc:
        raise BadLine(f"--message is {exc}") from None


class _UsageError(Exception):
    pass


def _tls_context(options: argparse.Namespace, uri: WebSocketURI) -> ssl.SSLContext | None:
    if not uri.secure:
        if options.ca or options.insecure:
            option = "--ca" if options.ca else "--insecure"
            raise _UsageError(f"{option} is for wss://; a ws:// connection has no certificate")
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
    except (OSError, ssl.SSLError) as exc:
        raise _UsageError(f"cannot load certificates from {options.ca}: {exc.strerror or exc}") from None
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:VALUE")
    return name.strip(), value.strip()


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if math.isnan(number) or number < 0:
        raise argparse.ArgumentTypeError(f"must not be below 0, not {text}")
    return number
