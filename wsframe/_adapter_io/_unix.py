"""Unix sockets: binding them to a file, and the file."""

from __future__ import annotations

import contextlib
import errno
import os
import socket as socket_module
import stat

__all__ = ["SocketFile", "bound_unix_socket", "remove_files"]


class SocketFile:
    """The file of a unix socket that was bound just now."""

    __slots__ = ("_identity", "_path")

    def __init__(self, path: str) -> None:
        # The process may go to another directory meanwhile.
        self._path = os.path.abspath(path)
        self._identity = _identity(self._path)

    def remove(self) -> None:
        """Remove it, if it is still that one: another server may have taken its place."""
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._identity:
                os.unlink(self._path)


def bound_unix_socket(
    path: str, mode: int | None, backlog: int, files: list[SocketFile]
) -> socket_module.socket:
    """Return a listening unix socket. A file that a server has left behind is replaced.

    Args:
        path: of the file; where it begins with NUL there is none.
        mode: the file's permissions, or None for what the system makes them. Nobody can connect before it has them.
        backlog: connections that the system keeps until they are accepted.
        files: its file is added to them.

    Raises:
        OSError: a server listens there, there is something else, or the file cannot be made.
    """
    sock = socket_module.socket(socket_module.AF_UNIX)
    file = None
    try:
        try:
            sock.bind(path)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or path.startswith("\0"):
                raise
            _remove_stale(path)
            sock.bind(path)
        if not path.startswith("\0"):
            file = SocketFile(path)
            if mode is not None:
                os.chmod(path, mode)
        # At once: until it listens it looks like one that was left behind.
        sock.listen(backlog)
    except OSError as exc:
        sock.close()
        if file is not None:
            file.remove()
        raise OSError(exc.errno, f"cannot listen on {path!r}: {exc.strerror or exc}") from None
    if file is not None:
        files.append(file)
    return sock


def remove_files(files: list[SocketFile]) -> None:
    """Remove them all; there are none in the list then."""
    while files:
        files.pop().remove()


def _remove_stale(path: str) -> None:
    """Remove the file of a socket on which nobody listens.

    Raises:
        OSError: somebody does, or it is no socket.
    """
    try:
        found = _identity(path)
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, "there is a file that is no socket")
        if _is_listening(path):
            raise OSError(errno.EADDRINUSE, "another server listens there")
        # Another server may have come to the same conclusion, and be listening by now.
        if _identity(path) == found:
            os.unlink(path)
    except FileNotFoundError:
        # Its server has ended in this moment.
        pass


def _is_listening(path: str) -> bool:
    with socket_module.socket(socket_module.AF_UNIX) as probe:
        # A queue that is full shall not hold us.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except FileNotFoundError:
            raise
        except OSError:
            # Such as a full queue, or a socket of another kind.
            return True
    return True


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
