"""`python -m wsframe connect` on a terminal: with a prompt, without one, and never at the mercy of the server."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest

from cli_helpers import (
    Terminal,
    serving,
)


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    with serving(compression=True, subprotocols=["chat", "superchat"]) as uri:
        yield uri


def test_prompt(server: str) -> None:
    with Terminal("connect", f"{server}/") as terminal:
        terminal.expect(r"connected to .* \(Ctrl-D closes\)")
        terminal.expect(">")
        # Typed with a mistake, and corrected in the middle.
        terminal.type("helo\x1b[Dl\r")
        terminal.expect("< hello")
        terminal.expect(">")
        # The line before comes back, and is changed.
        terminal.type("\x1b[A again\r")
        terminal.expect("< hello again")
        terminal.expect(">")
        terminal.type("\x04")
        terminal.expect("closed by us; sent Close 1000, received Close 1000")
        assert terminal.wait() == 0


def test_what_comes_does_not_tangle_with_what_is_typed(server: str) -> None:
    with Terminal("connect", f"{server}/tick") as terminal:
        terminal.expect("< tick 1\\D")
        terminal.type("half a ")
        terminal.expect("< tick 3")
        terminal.type("line\r")
        terminal.expect("< heard 'half a line'")
        terminal.expect("< tick")
        terminal.type("\x03")
        terminal.expect("sent Close 1001")
        assert terminal.wait() == 0


def test_ctrl_c_at_the_prompt_closes(server: str) -> None:
    with Terminal("connect", f"{server}/") as terminal:
        terminal.expect(">")
        terminal.type("not sent\x03")
        terminal.expect("closed by us; sent Close 1001, received Close 1001")
        assert terminal.wait() == 0
        assert "< not sent" not in terminal.output


def test_the_peer_closes_while_somebody_types(server: str) -> None:
    with Terminal("connect", f"{server}/close?4000,enough") as terminal:
        terminal.expect("closed by the peer; received Close 4000 'enough'")
        assert terminal.wait() == 1


def test_a_bad_line_can_be_typed_again(server: str) -> None:
    with Terminal("connect", f"{server}/", "--hex") as terminal:
        terminal.expect(">")
        terminal.type("xyz\r")
        terminal.expect("not sent: not hexadecimal")
        terminal.expect(">")
        terminal.type("00ff\r")
        terminal.expect(r"< 0x00ff  \(2 bytes\)")
        terminal.expect(">")
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_terminal_without_a_prompt(server: str) -> None:
    with Terminal("connect", f"{server}/", TERM="dumb") as terminal:
        terminal.expect("connected to ")
        terminal.type("hello\n")
        terminal.expect("\n< hello")
        terminal.process.send_signal(signal.SIGINT)
        terminal.expect("sent Close 1001, received Close 1001")
        assert terminal.wait() == 0


def test_terminal_without_a_prompt_ends_with_ctrl_d(server: str) -> None:
    with Terminal("connect", f"{server}/", TERM="dumb") as terminal:
        terminal.expect("connected to ")
        terminal.type("\x04")
        terminal.expect("sent Close 1000, received Close 1000")
        assert terminal.wait() == 0


def test_escapes_do_not_reach_a_terminal(server: str) -> None:
    escapes = b"\x1b[2Jboo\x07".hex()
    with Terminal("connect", f"{server}/send?{escapes}", TERM="dumb") as terminal:
        terminal.expect(r"< \\e\[2Jboo\\x07")
        terminal.type("\x04")
        assert terminal.wait() == 0
        assert "\x1b" not in terminal.output
        assert "\x07" not in terminal.output


def test_raw_is_not_for_terminals(server: str) -> None:
    with Terminal("connect", f"{server}/", "--raw") as terminal:
        terminal.expect("--raw is for files and pipes")
        assert terminal.wait() == 2


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_no_color(server: str, value: str, coloured: bool) -> None:
    with Terminal("connect", f"{server}/", "-m", "x", NO_COLOR=value) as terminal:
        assert terminal.wait() == 0
        assert ("\x1b[" in terminal.output) == coloured
