"""The page that `python -m wsframe serve` shows: as HTTP, and used as a person would, in a real browser."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

import wsframe
from browser import driver
from cli_helpers import PATIENCE, command

__all__ = ["driver"]


class Server:
    """`serve` as a command, with what it prints."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            command("serve", "--port", "0", "-v", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        found = until(lambda: re.search(r"ws://(\S+:(\d+))/", "\n".join(self.lines)))
        self.url = f"http://{found[1]}/"
        self.port = int(found[2])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


def until(ask: Callable[[], Any]) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return answer


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    server = Server("--subprotocol", "chat", "--subprotocol", "chat.v2", "--max-size", "100000")
    yield server
    server.stop()


# --- as HTTP ----------------------------------------------------------------------------------------------


def fetch(server: Server, method: str = "GET") -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request(method, "/some/path")
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def test_headers_let_only_this_page_run(server: Server) -> None:
    response, text = fetch(server)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_page_names_no_other_place(server: Server) -> None:
    _, text = fetch(server)
    assert not re.search(
        r"https?://|src=|@import|url\(|innerHTML|insertAdjacent|document\.write|eval\(", text
    )
    assert "{{" not in text
    assert wsframe.__version__ in text
    assert f"{wsframe.backend_description} codec" in text


def test_other_methods(server: Server) -> None:
    response, text = fetch(server, "HEAD")
    assert (response.status, text) == (200, "")
    response, _ = fetch(server, "POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_nothing_of_the_command_line_becomes_html() -> None:
    from wsframe.cli._page import page_response

    body = page_response(['"><script>', "{{version}}", "a&b"], 5).body.decode()
    assert 'data-subprotocols="&quot;&gt;&lt;script&gt;,{{version}},a&amp;b"' in body


# --- in a browser -----------------------------------------------------------------------------------------


class Page:
    """The page in a browser, by the names of its parts."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, server: Server) -> None:
        self.driver.get(server.url)
        self.wait_for("state-text", "Connected")

    def part(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return self.part(name).text

    def wait_for(self, name: str, text: str) -> None:
        until(lambda: text in self.text(name))

    def write(self, name: str, text: str) -> None:
        self.part(name).clear()
        self.part(name).send_keys(text)

    def choose(self, kind: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, f"input[name=kind][value={kind}]").click()

    def rows(self, kind: str) -> list[list[str]]:
        """What, size and body of the log's rows of a kind."""
        script = """return [...document.querySelectorAll("#log li")].map(row =>
            [...row.querySelectorAll(".what, .size, .body")].map(part => part.textContent))"""
        return [row for row in self.driver.execute_script(script) if row[0] == kind]

    def device(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
        )

    def media(self, **features: str) -> None:
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": named})


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Generator[Page]:
    page = Page(driver)
    page.device(1280, 900)
    page.media()
    page.open(server)
    yield page
    # Errors, and whatever the Content-Security-Policy forbade.
    assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]


@pytest.mark.browser
def test_it_connects_and_says_to_what(page: Page, server: Server) -> None:
    assert page.driver.title == "wsframe echo server"
    assert page.text("state-text") == "Connected"
    assert f"ws://127.0.0.1:{server.port}/" in page.text("facts")
    assert "permessage-deflate" in page.text("facts")
    assert f"connect ws://127.0.0.1:{server.port}/" in page.driver.find_element(By.TAG_NAME, "footer").text


@pytest.mark.browser
def test_text_comes_back_with_its_round_trip(page: Page) -> None:
    page.write("text", "gr\u00fc\u00dfe <b>&amp;")
    page.part("text").send_keys(Keys.ENTER)
    page.wait_for("count-received", "1")
    assert page.rows("\u2191 text") == [["\u2191 text", "16 bytes", "gr\u00fc\u00dfe <b>&amp;"]]
    ((_, size, body),) = page.rows("\u2193 text")
    assert re.fullmatch(r"16 bytes, [\d.,]+ ms", size)
    assert body == "gr\u00fc\u00dfe <b>&amp;"
    assert re.fullmatch(r"[\d.,]+ ms", page.text("rtt-last"))
    assert page.text("rtt-median") == page.text("rtt-last")
    assert page.text("count-sent") == "1"


@pytest.mark.browser
def test_hexadecimal_digits_are_sent_as_bytes(page: Page) -> None:
    page.choose("hex")
    page.write("text", "0x00ff 1b")
    page.part("send").click()
    page.wait_for("count-received", "1")
    assert [row[2] for row in page.rows("\u2193 binary")] == ["00 ff 1b"]
    page.write("text", "00f")
    page.part("send").click()
    page.wait_for("send-trouble", "half a byte")
    page.write("text", "0g")
    page.part("send").click()
    page.wait_for("send-trouble", "Hexadecimal digits are")
    assert page.text("count-sent") == "1"


@pytest.mark.browser
def test_a_file_is_sent_as_one_message(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 4)
    page.choose("file")
    page.part("send").click()
    page.wait_for("send-trouble", "Choose a file")
    page.part("file").send_keys(str(path))
    page.part("send").click()
    page.wait_for("count-received", "1")
    ((_, size, body),) = page.rows("\u2193 binary")
    assert size.startswith("1,024 bytes, ")
    assert body.startswith("00 01 02")
    assert body.endswith("fe ff \u2026 (768 more bytes)")


@pytest.mark.browser
def test_too_big_a_message_is_announced_and_explained(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(100_001))
    page.choose("file")
    page.part("file").send_keys(str(path))
    page.part("send").click()
    page.wait_for("state-text", "Closed with 1009")
    assert "1009 (message too big)" in page.text("facts")
    assert "up to 100,000 bytes" in page.rows("too big?")[0][2]


@pytest.mark.browser
def test_closing_with_a_code_is_seen_on_both_sides(page: Page, server: Server) -> None:
    page.write("code", "4001")
    page.write("reason", "enough \u2713")
    page.part("close").click()
    page.wait_for("state-text", "Closed with 4001")
    facts = page.text("facts").split("\n")
    assert facts == ["code", "4001", "reason", "none", "wasClean", "yes"]
    assert [row[2] for row in page.rows("\u2191 close")] == ["4001 enough \u2713"]
    line = "closed by the peer; received Close 4001 'enough \u2713', sent Close 4001"
    until(lambda: any(line in shown for shown in server.lines))
    assert not page.part("send").is_enabled()
    assert not page.part("close").is_enabled()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("code", "reason", "trouble"),
    [
        ("1001", "", "1000 or with 3000 to 4999"),
        ("5000", "", "1000 or with 3000 to 4999"),
        ("4e3", "", "1000 or with 3000 to 4999"),
        ("4000", "\u00fc" * 62, "at most 123 bytes as UTF-8; this one has 124"),
        ("", "why", "A reason needs a code"),
    ],
)
def test_what_a_browser_may_not_close_with(page: Page, code: str, reason: str, trouble: str) -> None:
    page.write("code", code)
    page.write("reason", reason)
    page.part("close").click()
    page.wait_for("close-trouble", trouble)
    assert page.text("state-text") == "Connected"


@pytest.mark.browser
def test_closing_without_a_code_and_reconnecting(page: Page, server: Server) -> None:
    page.part("code").clear()
    page.part("close").click()
    page.wait_for("state-text", "Closed with 1005")
    until(lambda: any("received Close without a code" in line for line in server.lines))
    assert page.text("toggle") == "Reconnect"
    page.part("toggle").click()
    page.wait_for("state-text", "Connected")
    page.part("send").click()
    page.wait_for("count-received", "1")
    page.part("toggle").click()
    page.wait_for("state-text", "Closed with 1000")


@pytest.mark.browser
def test_subprotocols(page: Page) -> None:
    options = page.driver.find_elements(By.CSS_SELECTOR, "#known option")
    assert [option.get_attribute("value") for option in options] == ["chat", "chat.v2"]
    page.part("toggle").click()
    page.wait_for("state-text", "Closed")
    page.write("subprotocols", "other, chat.v2")
    page.part("subprotocols").send_keys(Keys.ENTER)
    page.wait_for("state-text", "Connected")
    assert "subprotocol\nchat.v2\n" in page.text("facts")
    page.part("toggle").click()
    page.wait_for("state-text", "Closed")
    page.write("subprotocols", "no/word")
    page.part("toggle").click()
    page.wait_for("link-trouble", "A subprotocol is a word")


@pytest.mark.browser
def test_a_subprotocol_that_the_server_does_not_know(page: Page) -> None:
    page.part("toggle").click()
    page.wait_for("state-text", "Closed")
    page.write("subprotocols", "other")
    page.part("toggle").click()
    page.wait_for("link-trouble", "The server agreed to none of the subprotocols")
    assert "it knows chat, chat.v2." in page.text("link-trouble")
    # The browser itself reports that on its console.
    (entry,) = page.driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert "Sec-WebSocket-Protocol" in entry["message"]


@pytest.mark.browser
def test_the_server_is_shut_down(driver: webdriver.Chrome) -> None:
    page, server = Page(driver), Server()
    try:
        page.open(server)
        assert "knows none" in page.text("subprotocols-hint")
    finally:
        server.stop()
    page.wait_for("state-text", "Closed with 1001")
    facts = page.text("facts").split("\n")
    assert facts[1].startswith("1001 (going away")
    assert facts[2:] == ["reason", "server is going away", "wasClean", "yes"]
    page.part("toggle").click()
    page.wait_for("link-trouble", "is the server still running")
    assert page.text("state-text") == "Not connected"
    driver.get_log("browser")  # type: ignore[no-untyped-call]


@pytest.mark.browser
def test_the_log_is_bounded_and_can_be_cleared(page: Page) -> None:
    page.driver.execute_script("""
        for (let number = 0; number < 300; number++) {
            document.getElementById("text").value = `message ${number}`;
            document.getElementById("send-form").requestSubmit();
        }""")
    page.wait_for("count-received", "300")
    log = page.driver.execute_script("return document.querySelectorAll('#log li').length")
    assert log == 500
    assert page.rows("\u2193 text")[-1][2] == "message 299"
    at_end = """const log = document.getElementById("log");
        return log.scrollHeight - log.scrollTop - log.clientHeight < 5"""
    assert page.driver.execute_script(at_end)
    page.part("clear").click()
    assert page.rows("\u2193 text") == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1920])
def test_nothing_sticks_out(page: Page, width: int) -> None:
    page.device(width, 740, mobile=width < 700)
    page.driver.execute_script("document.getElementById('text').value = 'x'.repeat(3000)")
    page.part("send").click()
    page.wait_for("count-received", "1")
    outside = """return [document.documentElement, document.getElementById("log")]
        .map((part) => part.scrollWidth - part.clientWidth)"""
    assert page.driver.execute_script(outside) == [0, 0]
    if width < 700:
        small = """return [...document.querySelectorAll("button, .choice label, input[type=text]")]
            .filter((part) => part.offsetParent && part.getBoundingClientRect().height < 32)
            .map((part) => part.outerHTML)"""
        assert page.driver.execute_script(small) == []


@pytest.mark.browser
def test_light_and_dark_are_readable(page: Page) -> None:
    page.part("send").click()
    page.wait_for("count-received", "1")
    # Contrast by WCAG 2.2 between each part's text and what lies behind it.
    script = """
        const channel = (value) => (value /= 255) <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
        const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
        const light = (color) => {
            const [red, green, blue] = numbers(color).map(channel);
            return .2126 * red + .7152 * green + .0722 * blue;
        };
        const behind = (part) => {
            for (; part; part = part.parentElement) {
                const color = getComputedStyle(part).backgroundColor;
                if (numbers(color)[3] !== 0) return color;
            }
        };
        const parts = "h1, h2, p, label, dt, dd, button:enabled, .log li *, .choice span, footer span";
        return [...document.querySelectorAll(parts)]
            .filter((part) => part.offsetParent && part.textContent.trim())
            .map((part) => {
                const [a, b] = [light(getComputedStyle(part).color), light(behind(part))].sort((x, y) => y - x);
                return [(a + .05) / (b + .05), part.outerHTML.slice(0, 80)];
            })
            .filter(([contrast]) => contrast < 4.5);"""
    pages = set()
    for scheme in ("light", "dark"):
        page.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
        assert page.driver.execute_script(script) == [], scheme
        pages.add(page.driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
        moving = "return getComputedStyle(document.getElementById('send')).transitionDuration"
        assert page.driver.execute_script(moving) == "0s"
    assert len(pages) == 2


@pytest.mark.browser
def test_the_keyboard_is_enough_and_everything_has_a_name(page: Page) -> None:
    names = []
    page.driver.execute_script("document.activeElement.blur()")
    for _ in range(20):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        active = page.driver.switch_to.active_element
        if active.tag_name == "body":
            break
        names.append(active.accessible_name)
    assert names == [
        "Disconnect", "Subprotocols to offer", "Text", "Text", "Send", "Clear", "Messages", "Code", "Reason", "Close",
    ]  # fmt: skip
