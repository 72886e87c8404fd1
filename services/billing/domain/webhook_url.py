"""Which addresses may be told: nothing inside our own network can be reached by a URL that
somebody gave us."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import urlsplit

from services.billing.domain.errors import WebhookUrlNotAllowed
from shared.values import dataclass

LONGEST_URL = 500
_PORTS = {"https": 443, "http": 80}
_LEAST_OTHER_PORT = 1024

# Beside what `ipaddress` calls not global: relays, protocol assignments, and the wire server of
# Azure's machines, whose address looks public (with that of Oracle's, 192.0.0.192, among them).
_NEVER_V4 = tuple(
    map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "240.0.0.0/4"))
)
# Of IPv6 only global unicast, without what wraps an IPv4 address or belongs to nobody: Teredo,
# ORCHID and other protocol assignments, documentation, 6to4.
_GLOBAL_V6 = IPv6Network("2000::/3")
_NEVER_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")
# For local runs: one's own machine and network, but never a cloud's metadata (link-local).
_LOCAL = tuple(
    map(
        ip_network,
        (
            *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
            *("::1/128", "fd00::/8"),
        ),
    )
)
_NEVER_LOCAL = ip_address("fd00:ec2::254")  # the metadata of Amazon's machines


@dataclass(frozen=True, slots=True)
class Target:
    """What of a URL says where to connect."""

    scheme: str
    host: str
    port: int


def read_url(url: str, *, allow_local: bool) -> Target:
    """Raises WebhookUrlNotAllowed. A name's addresses are checked when it is told something."""
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookUrlNotAllowed("A URL has at most 500 printable ASCII characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebhookUrlNotAllowed("This is no URL.") from error
    if parts.scheme not in (("https", "http") if allow_local else ("https",)):
        raise WebhookUrlNotAllowed("A webhook's URL begins with https://.")
    if "@" in parts.netloc or parts.fragment or "\\" in url:
        raise WebhookUrlNotAllowed("A webhook's URL has no credentials and no fragment.")
    host = (parts.hostname or "").rstrip(".")
    if not host or "%" in host:
        raise WebhookUrlNotAllowed("A webhook's URL names a host.")
    port = _PORTS[parts.scheme] if port is None else port
    if port != _PORTS[parts.scheme] and port < _LEAST_OTHER_PORT:
        raise WebhookUrlNotAllowed("Use the scheme's own port, or one from 1024 on.")
    if _is_address(host) and not may_be_told(host, allow_local=allow_local):
        raise WebhookUrlNotAllowed("This address can't be told.")
    return Target(parts.scheme, host, port)


def may_be_told(address: str, *, allow_local: bool) -> bool:
    """Whether we connect to this IP address."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return False
        ip = ip.ipv4_mapped or ip
    if allow_local and ip != _NEVER_LOCAL and any(_is_in(ip, network) for network in _LOCAL):
        return True
    return _is_public(ip)


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in net for net in _NEVER_V4)
    if ip in _NAT64:
        return _is_public(IPv4Address(ip.packed[-4:]))
    return ip in _GLOBAL_V6 and ip.is_global and not any(ip in net for net in _NEVER_V6)


def _is_in(ip: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return ip.version == network.version and ip in network


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
