"""The client of a request: its address, and whether it is on this host.

The last entry of ``X-Forwarded-For`` is believed where the peer is a proxy of ours: at a Unix
socket, or at an address that ``FORWARDED_ALLOW_IPS`` names. Before it stands what callers write.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

_HEADER = "HTTP_X_FORWARDED_FOR"
#: How much of the header may be an address: with spaces around it, one of IPv6 has 45 characters.
_LONGEST = 64


def client_address(environ: Mapping[str, Any], proxies: tuple[str, ...]) -> str | None:
    """Return the address of the client, None if it has none or a proxy named none.

    It has digits, letters, dots and colons alone.
    """
    forwarded = environ.get(_HEADER)
    if forwarded is not None:
        forwarded = forwarded[-_LONGEST:]
    return _client(environ.get("REMOTE_ADDR", ""), forwarded, proxies)


def is_local(environ: Mapping[str, Any]) -> bool:
    """Tell whether the client is on this host, and asks without a proxy."""
    peer = _parse(environ.get("REMOTE_ADDR", ""))
    return _HEADER not in environ and (peer is None or peer.is_loopback)


@lru_cache(maxsize=4096)  # to parse two addresses and two networks costs 10 µs
def _client(peer: str, forwarded: str | None, proxies: tuple[str, ...]) -> str | None:
    address = _parse(peer)
    if forwarded is not None and (address is None or _is_proxy(address, proxies)):
        address = _parse(forwarded.rpartition(",")[2].strip(" \t"))
    return None if address is None else str(address)


def _is_proxy(address: IPv4Address | IPv6Address, proxies: tuple[str, ...]) -> bool:
    return "*" in proxies or any(address in ip_network(proxy) for proxy in proxies)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in `text`, None if it is none; the peer at a Unix socket has none."""
    try:
        address = ip_address(text.partition("%")[0])  # behind it is the zone: any characters
    except ValueError:
        return None
    # A socket for both versions has IPv4 addresses in IPv6's form.
    return getattr(address, "ipv4_mapped", None) or address
