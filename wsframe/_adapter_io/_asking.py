"""What ``connect`` asks for: its arguments, checked, and the request that they make, once or for every attempt."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Sequence

from .._adapter._redirect import Redirects, check_max_redirects
from .._adapter._settings import Settings
from .._client import Client
from .._http import Headers
from .._negotiate import HeaderItems
from .._uri import WebSocketURI

__all__ = ["Asking"]


class Asking:
    """The arguments of ``connect`` that say what is asked for, and of whom.

    Args:
        uri: that of the server.
        leads_to_one_server: whatever the URI says.
        settings: of the connection.
        Others: see ``connect``.

    Attributes:
        settings: as they were given.
        user_agent: the User-Agent header, or None.

    Raises:
        TypeError, ValueError: an argument is wrong, also if it is only so together with others.
    """

    def __init__(
        self,
        uri: str,
        *,
        headers: HeaderItems,
        origin: str | None,
        subprotocols: Sequence[str],
        user_agent: str | None,
        ssl: ssl_module.SSLContext | None,
        server_hostname: str | None,
        leads_to_one_server: bool,
        max_redirects: int,
        stream: bool,
        settings: Settings,
    ) -> None:
        self.settings = settings
        self.user_agent = user_agent
        self._max_redirects = check_max_redirects(max_redirects)
        if self._max_redirects and leads_to_one_server:
            raise ValueError("max_redirects: a redirect cannot be followed over sock or unix_path")
        # They may be needed again, and what was given may be an iterator.
        self._headers = Headers(headers)
        self._origin = origin
        self._subprotocols = subprotocols
        self._stream = stream
        # What is wrong with the arguments is said at once.
        self._first: Client | None = self._new_endpoint(uri, self._headers)
        self._uri = self._first.uri
        if ssl is not None:
            if not isinstance(ssl, ssl_module.SSLContext):
                raise TypeError(f"ssl must be an ssl.SSLContext, or None for the default one, not {ssl!r}")
            if not self._uri.secure and not self._max_redirects:
                raise ValueError("a TLS context was given for a ws:// URI; use wss://")
        self._ssl = ssl
        self._server_hostname = server_hostname

    def begin(self) -> tuple[Redirects, Client]:
        """One attempt: what may change its way, and who asks first."""
        redirects = Redirects(self._uri, self._headers, self._max_redirects)
        first, self._first = self._first, None
        return redirects, first or self.again(redirects)

    def again(self, redirects: Redirects) -> Client:
        """Who asks where the attempt has come to."""
        return self._new_endpoint(redirects.uri, redirects.headers)

    def tls(self, uri: WebSocketURI) -> tuple[ssl_module.SSLContext, str]:
        """The context for a server, and the name that its certificate must have."""
        # The name that was given is that of the first server.
        hostname = self._server_hostname if uri.host == self._uri.host else None
        return self._ssl or ssl_module.create_default_context(), hostname or uri.host

    def _new_endpoint(self, uri: str | WebSocketURI, headers: HeaderItems) -> Client:
        settings = self.settings
        return Client(
            uri,
            headers=headers,
            origin=self._origin,
            subprotocols=self._subprotocols,
            extensions=settings.extensions,
            user_agent=self.user_agent,
            limits=settings.limits,
            timeouts=settings.timeouts,
            stream=self._stream,
        )
