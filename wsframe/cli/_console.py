"""What `connect` shows: messages on stdout and everything else on stderr, with nothing in it that a terminal obeys."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable
from typing import TextIO

__all__ = ["Console", "OutputGone", "safe"]

_SHORT = {"\n": r"\n", "\r": r"\r", "\x1b": r"\e"}

#: Joiners are invisible but part of words and emoji, and they move nothing.
_HARMLESS = frozenset("\t\u200c\u200d")

#: Controls (escape sequences begin with one), invisible formatting (some of it turns text around), halves of
#: surrogate pairs, and what separates lines.
_ESCAPED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))

_DIM, _BOLD_RED, _CYAN, _RESET = "\x1b[2m", "\x1b[1;31m", "\x1b[36m", "\x1b[0m"


class OutputGone(Exception):
    """Nobody reads stdout any more."""


class Console:
    """Prints. Everything given to it may come from a hostile peer.

    Args:
        raw: messages go to stdout as they came.
    """

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw
        #: Set while there is a prompt: prints a line above it, or returns False when it is not on the screen.
        self.print_above: Callable[[str], bool] | None = None
        self.out_is_terminal = _is_terminal(sys.stdout)
        self._colour_out = self.out_is_terminal and _wants_colour()
        self._err_is_terminal = _is_terminal(sys.stderr)
        self._colour_err = self._err_is_terminal and _wants_colour()
        for stream in (sys.stdout, sys.stderr):
            # What the encoding of a terminal does not have is shown, not raised.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def message(self, data: str | bytes) -> None:
        """Show a received message: one line on stdout, whatever is in it.

        Raises:
            OutputGone: nobody reads it.
        """
        try:
            if self._raw:
                # Through the text layer's buffer, so that bytes are bytes and lines end as they do here.
                sys.stdout.buffer.write(data if isinstance(data, bytes) else f"{data}\n".encode())
                sys.stdout.flush()
                return
            line = f"0x{data.hex()}" if isinstance(data, bytes) else safe(data)
            if self.out_is_terminal:
                mark = self._paint("<", _CYAN, self._colour_out)
                size = f"  ({len(data)} bytes)" if isinstance(data, bytes) else ""
                line = f"{mark} {line}{self._paint(size, _DIM, self._colour_out)}"
            if self.print_above is None or not self.print_above(line):
                print(line, flush=True)
        except BrokenPipeError:
            # Python flushes stdout at its end and would complain once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise OutputGone from None

    def note(self, text: str) -> None:
        """Say something about the connection, on stderr."""
        self._say(self._paint(safe(text), _DIM, self._colour_err))

    def error(self, text: str) -> None:
        """Say what went wrong, on stderr."""
        mark = self._paint("python -m wsframe connect:", _BOLD_RED, self._colour_err)
        self._say(f"{mark} {safe(text)}")

    def _say(self, line: str) -> None:
        if self._err_is_terminal and self.print_above is not None and self.print_above(line):
            return
        # That nobody reads it is no reason to end anything.
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    @staticmethod
    def _paint(text: str, how: str, colour: bool) -> str:
        return f"{how}{text}{_RESET}" if colour and text else text


def safe(text: str) -> str:
    """Text in one line, with every character escaped that a terminal or a reader could be misled by.

    Backslashes stay as they are, so that JSON stays JSON.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) not in _ESCAPED:
        return character
    if character in _SHORT:
        return _SHORT[character]
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _is_terminal(stream: TextIO | None) -> bool:
    # Without a console, as in a service on Windows, there are no streams at all.
    return stream is not None and stream.isatty()


def _wants_colour() -> bool:
    # https://no-color.org: any value but the empty one.
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")
