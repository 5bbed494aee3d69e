"""Certificates for the rows with TLS, made for one run by ``trustme``."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from types import TracebackType

import trustme

__all__ = ["Certificates"]


class Certificates:
    """An authority and a server's certificate, in files, because drivers are other processes.

    Attributes:
        server: the file with a server's certificate chain and key.
        authority: the file with the certificate of the authority that signed it.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="wsframe-lifecycle-")
        directory = Path(self._directory.name)
        self._trusted, self._other = trustme.CA(), trustme.CA()
        self.server = str(directory / "server.pem")
        self.authority = str(directory / "authority.pem")
        certificate = self._trusted.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(self.server)
        self._trusted.cert_pem.write_to_path(self.authority)

    def context(self, *, server_side: bool, distrusted: bool) -> ssl.SSLContext:
        """The peer's TLS context.

        Args:
            server_side: the peer is the server.
            distrusted: the client, whichever side it is, does not trust the server.
        """
        authority = self._other if distrusted else self._trusted
        if server_side:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
            return context
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        return context

    def __enter__(self) -> Certificates:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._directory.cleanup()
