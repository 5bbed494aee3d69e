"""`picows`, its core: https://picows.readthedocs.io/."""

from __future__ import annotations

import asyncio
from typing import Any

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

from ._driver import AsyncDriver, Cannot, message_text, run


class PicowsDriver(AsyncDriver):
    """A listener with its callbacks; after the end it looks at `close_handshake` and `wait_disconnected()`."""

    name = "picows"
    settings = frozenset(("max_message_size", "open_timeout", "ping_interval", "ping_timeout"))

    async def start(self) -> int | None:
        """Serve, or begin to connect."""
        self._server: asyncio.Server | None = None
        self._transport: WSTransport | None = None
        self._end: asyncio.Task[None] | None = None
        assignment = self.assignment
        options: dict[str, Any] = {}
        if "max_message_size" in assignment.settings:
            options["max_frame_size"] = assignment.settings["max_message_size"]
        options["websocket_handshake_timeout"] = self.setting("open_timeout", assignment.patience)
        if self.setting("ping_interval") is not None:
            options["enable_auto_ping"] = True
            options["auto_ping_idle_timeout"] = assignment.settings["ping_interval"]
            options["auto_ping_reply_timeout"] = self.setting("ping_timeout", 10)
        context = assignment.ssl_context()
        if assignment.role == "client":
            self.spawn(self._connect(context, options), "ws_connect()")
            return None
        self._server = await ws_create_server(
            self._listener_for, sock=assignment.listener(), ssl=context, **options
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def end(self) -> None:
        """Drop what is left."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)
        if self._server is not None:
            self._server.close()

    # The application.

    def _listener_for(self, _request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        answer, body = self.assignment.answer, self.assignment.body.encode()
        if answer == "raise":
            raise RuntimeError("the application fails")
        if answer is None:
            return Listener(self)
        if answer == 200:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(body), None)
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(int(answer), body), None)

    async def _connect(self, context: Any, options: dict[str, Any]) -> None:
        uri = self.assignment.uri
        assert uri is not None
        try:
            transport, _ = await ws_connect(
                lambda: Listener(self),
                uri,
                ssl_context=context,
                socket_factory=lambda _url: self.assignment.dialled(),
                **options,
            )
        except Exception as exc:
            self.told_exception(exc, by="ws_connect()", over=True)
            return
        if transport is not self._transport:
            gone = "disconnected" if transport.is_disconnected else "connected"
            self.told(
                f"a transport that was never opened, {gone}",
                by="ws_connect()",
                over=transport.is_disconnected,
            )

    def connected(self, transport: WSTransport) -> None:
        """From the listener."""
        self._transport = transport
        self.told("open")
        self._end = self.spawn(self._watch(transport), "wait_disconnected()")

    async def _watch(self, transport: WSTransport) -> None:
        try:
            await transport.wait_disconnected()
        except Exception as exc:
            self.told_exception(exc, by="wait_disconnected()")
        handshake = transport.close_handshake
        if handshake is None:
            what = "None"
        else:
            order = ", recv_then_sent" if handshake.recv_then_sent else ""
            what = f"recv {_info(handshake.recv)}, sent {_info(handshake.sent)}{order}"
        self.told(what, by="close_handshake", over=True)

    # What it can be told to do.

    def _open(self) -> WSTransport:
        assert self._transport is not None
        return self._transport

    def act_close(self, code: int | None, reason: str) -> None:
        """Send a Close; nobody can wait for the end, which the application brings about when the peer's comes."""
        self._open().send_close(_code(code), reason.encode() or None)

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages. When to stop is told by `pause_writing()`."""
        if count is None:
            transport = self._open()
            while transport.underlying_transport.get_write_buffer_size() < 1 << 20:
                transport.send(WSMsgType.BINARY, bytes(size))
                await asyncio.sleep(0)
            return
        for _ in range(count):
            self._open().send(WSMsgType.BINARY, bytes(size))

    def act_abort(self) -> None:
        """Disconnect at once."""
        self._open().disconnect(graceful=False)

    def act_shutdown(self, code: int, reason: str) -> None:
        """Stop listening, and close what is open, as an application does that keeps a list."""
        assert self._server is not None
        self._server.close()
        if self._transport is None:
            raise Cannot("close() leaves connections alone")
        self._transport.send_close(_code(code), reason.encode() or None)


class Listener(WSListener):  # type: ignore[misc]
    """The application, as in the documentation's example of an echo server."""

    def __init__(self, driver: PicowsDriver) -> None:
        self._driver = driver

    def on_ws_connected(self, transport: WSTransport) -> None:
        """It is a WebSocket."""
        self._driver.connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame."""
        if frame.msg_type is WSMsgType.CLOSE:
            code, reason = frame.get_close_code(), frame.get_close_reason()
            self._driver.told(f"CLOSE {_number(code)} {reason!r}", by="on_ws_frame()")
            transport.send_close(code, frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            text = frame.msg_type is WSMsgType.TEXT
            data = frame.get_payload_as_utf8_text() if text else frame.get_payload_as_bytes()
            what = message_text(data)
            if not frame.fin or frame.msg_type is WSMsgType.CONTINUATION:
                what = f"fragment of a {what}"
            self._driver.told(what, by="on_ws_frame()")

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """The end."""
        self._driver.told("called", by="on_ws_disconnected()", brief="")


def _code(code: int | None) -> WSCloseCode:
    if code is None:
        return WSCloseCode.NO_INFO
    try:
        return WSCloseCode(code)
    except ValueError:
        raise Cannot(f"no Close code {code}") from None


def _number(code: Any) -> int:
    return int(getattr(code, "value", code))


def _info(info: Any) -> str:
    return "None" if info is None else f"{_number(info.code)} {info.reason!r}"


if __name__ == "__main__":
    run(PicowsDriver)
