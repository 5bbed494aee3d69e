"""``PeerSet``: addresses and networks to which a peer belongs or not."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, TypeAlias

__all__ = ["UNIX", "IpAddress", "PeerSet", "ip_address"]

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Stands for everybody who comes over a unix socket.
UNIX = "unix"


class PeerSet:
    """Some peers: addresses, networks such as ``10.0.0.0/8``, and ``"unix"`` for all unix sockets.

    Raises:
        TypeError: what was given is no collection of ``str``.
        ValueError: one of them is neither.
    """

    __slots__ = ("_addresses", "_networks", "_unix")

    def __init__(self, peers: Iterable[str] = ()) -> None:
        if isinstance(peers, (str, bytes)):
            raise TypeError(
                f"a list of addresses and networks is needed, not {peers!r}; one is written [{peers!r}]"
            )
        self._addresses: set[IpAddress] = set()
        self._networks: set[ipaddress.IPv4Network | ipaddress.IPv6Network] = set()
        self._unix = False
        for peer in peers:
            self.add(peer)

    def add(self, peer: str) -> None:
        """Add one.

        Raises:
            TypeError, ValueError: it is no address, no network and not "unix".
        """
        if not isinstance(peer, str):
            raise TypeError(f"an address or a network is a str, not {peer!r}")
        if peer == UNIX:
            self._unix = True
            return
        try:
            network = ipaddress.ip_network(peer)
        except ValueError as exc:
            raise ValueError(f"neither an address nor a network nor {UNIX!r}: {exc}") from None
        if network.num_addresses == 1:
            self._addresses.add(_plain(network.network_address))
        else:
            # A new set: other threads may be going through the old one.
            self._networks = self._networks | {network}

    def discard(self, peer: str) -> None:
        """Take one out that was added, in the same words; nothing happens if it was not."""
        if peer == UNIX:
            self._unix = False
            return
        network = ipaddress.ip_network(peer)
        self._networks = self._networks - {network}
        if network.num_addresses == 1:
            self._addresses.discard(_plain(network.network_address))

    def has_ip(self, ip: IpAddress) -> bool:
        """Whether that address belongs to them."""
        return ip in self._addresses or any(ip in network for network in self._networks)

    def __contains__(self, remote_address: Any) -> bool:
        """Whether a peer belongs to them, whose address is as sockets give it."""
        if isinstance(remote_address, (str, bytes)):
            return self._unix
        host = remote_address[0] if isinstance(remote_address, tuple) and remote_address else None
        ip = ip_address(host) if isinstance(host, str) else None
        return ip is not None and self.has_ip(ip)


def ip_address(text: str) -> IpAddress | None:
    """Return the address that a text is, without its zone; one of IPv4 that comes as IPv6 is one of IPv4."""
    try:
        return _plain(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _plain(ip: IpAddress) -> IpAddress:
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip if mapped is None else mapped
