"""What the servers of both adapters refuse alike."""

from __future__ import annotations

from typing import Any

__all__ = ["BAD_ADDRESSES", "BAD_CLOSES"]

#: Arguments of ``serve`` that say where to listen, the error that they are, and what it says.
BAD_ADDRESSES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"port": "80"}, TypeError, "port must be an int, not '80'"),
    ({"port": True}, TypeError, "port must be an int, not True"),
    ({"port": 65536}, ValueError, "port must be 0 to 65535, not 65536"),
    ({"port": -1}, ValueError, "port must be 0 to 65535, not -1"),
    ({"host": 80}, TypeError, "host must be a name"),
    ({"host": b"localhost"}, TypeError, "host must be a name"),
    ({"host": ("localhost", 80)}, TypeError, r"a single pair is written \[\('localhost', 80\)\]"),
    ({"host": [("localhost", "80")]}, TypeError, "port must be an int, not '80'"),
    ({"host": [("localhost", 80, 0)]}, TypeError, "host must be a name"),
    ({"host": []}, ValueError, "host: there is no address in it"),
    ({"host": [("localhost", 80)], "port": 80}, TypeError, "port 80 is for nothing"),
    ({"sock": []}, ValueError, "sock: there is no socket in it"),
    ({"sock": 3}, TypeError, "sock must be a socket, or several, not 3"),
    ({"unix_path": ""}, ValueError, "unix_path is empty"),
    ({"unix_path": 5}, TypeError, "str, bytes or os.PathLike"),
    ({"unix_mode": 0o600}, TypeError, "unix_mode needs unix_path"),
    (
        {"unix_path": "x", "unix_mode": "600"},
        TypeError,
        "unix_mode must be an int, such as 0o660, not '600'",
    ),
    ({"unix_path": "x", "unix_mode": 600}, ValueError, "unix_mode must be 0 to 0o777, not 0o1130"),
    ({"unix_path": "\0x", "unix_mode": 0o600}, ValueError, "this unix_path is none"),
    ({"unix_path": "x", "reuse_port": True}, TypeError, "reuse_port is for TCP ports"),
    ({"backlog": 0}, ValueError, "backlog must be positive, not 0"),
    ({"backlog": 1.5}, TypeError, "backlog must be an int, not 1.5"),
]

#: Codes and reasons with which a server may not close, and what it says.
BAD_CLOSES: list[tuple[Any, str, str]] = [
    (1005, "", "Close code 1005 may not be sent"),
    (1006, "", "Close code 1006 may not be sent"),
    (1010, "", "1010 may not be sent by a server"),
    (999, "", "Close code 999"),
    (5000, "", "Close code 5000"),
    (1000, "x" * 124, "at most 123 bytes as UTF-8, not 124"),
    (1000, "ü" * 62, "at most 123 bytes as UTF-8, not 124"),
    (None, "x", "reason without a code"),
]
