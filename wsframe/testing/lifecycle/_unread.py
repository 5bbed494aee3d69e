"""How much a program on this machine has not read yet, asked of Linux: sock_diag(7)."""

from __future__ import annotations

import socket
import struct

__all__ = ["unread"]

_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST = 1
_ANY = 0xFFFFFFFF

#: nlmsghdr: length, type, flags, sequence number, port.
_HEADER = struct.Struct("=IHHII")

#: inet_diag_req_v2 up to the addresses: family, protocol, extensions, padding, states.
_WHAT = struct.Struct("=BBBxI")

#: What inet_diag_msg has before the receive queue: four bytes, the socket's identity, a timer.
_BEFORE_QUEUE = _HEADER.size + 4 + 48 + 4


def unread(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Bytes that wait to be read in a TCP socket of this machine, or None where the system does not tell.

    Args:
        local: the socket's own IPv4 address and port.
        remote: those of its peer.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as sock:
            question = _WHAT.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY) + b"".join(
                (
                    struct.pack("!HH", local[1], remote[1]),
                    socket.inet_aton(local[0]).ljust(16, b"\0"),
                    socket.inet_aton(remote[0]).ljust(16, b"\0"),
                    # Any interface, any cookie.
                    struct.pack("=III", 0, _ANY, _ANY),
                )
            )
            sock.settimeout(1)
            sock.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 0, 0) + question)
            answer = sock.recv(4096)
    except (OSError, AttributeError):
        # Another system, or one that does not allow it.
        return None
    if len(answer) < _BEFORE_QUEUE + 4 or _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
        # There is no such socket any more.
        return None
    (count,) = struct.unpack_from("=I", answer, _BEFORE_QUEUE)
    return int(count)
