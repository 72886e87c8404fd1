"""Where a proxy listens and whom it calls: the addresses that both configurations are made of."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

# Where distributions keep the certificate authorities they trust: Debian, RHEL, SUSE, Alpine.
CA_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)

# What a vendor's base path may hold. It ends up in a rewrite, where a backslash has a meaning.
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")


class ConfigurationRefused(ValueError):
    """A setting would give a proxy that is broken or open; raised before anything is rendered."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (name or address) and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read `host:port`; an IPv6 address stands in brackets."""
        parts = urlsplit(f"//{text}")
        port = _port(parts)
        if not parts.hostname or not port or parts.path or parts.query or "@" in text:
            raise ConfigurationRefused(f"not a host:port: {text!r}")
        return cls(parts.hostname, port)

    @property
    def is_address(self) -> bool:
        """Whether the host needs no name lookup."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or (self.is_address and ip_address(self.host).is_loopback)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A server outside the suite, as the base URL of its SDK names it."""

    scheme: str
    endpoint: Endpoint
    path: str

    @classmethod
    def parse(cls, url: str) -> "BaseUrl":
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigurationRefused(f"not an http(s) base URL: {url!r}")
        if parts.query or parts.fragment or not _BASE_PATH.fullmatch(path):
            raise ConfigurationRefused(f"a base URL has a plain path and no query: {url!r}")
        port = _port(parts) or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, Endpoint(parts.hostname, port), path)

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """What the Host header says; the port only where it is not the scheme's own."""
        usual = self.endpoint.port == (443 if self.tls else 80)
        text = str(self.endpoint)
        return text.rpartition(":")[0] if usual else text


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise ConfigurationRefused(f"not a port: {parts.netloc!r}") from error


def parse_admin(text: str) -> Endpoint | Path:
    """Read where the admin interface lives: a socket's path, or a loopback `host:port`."""
    return Path(text) if "/" in text else Endpoint.parse(text)


def refuse_open_admin(admin: Endpoint | Path) -> None:
    """The admin interface can print configuration and raise the log level: never a network's."""
    if isinstance(admin, Endpoint) and not admin.is_loopback:
        raise ConfigurationRefused(f"the admin interface must be a socket or loopback: {admin}")


def flag(environ: Mapping[str, str], name: str) -> bool:
    """Whether an environment variable says yes."""
    return environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")


def required(environ: Mapping[str, str], *names: str) -> Endpoint:
    """The endpoint in the first of these variables that is set."""
    for name in names:
        if text := environ.get(name):
            return Endpoint.parse(text)
    raise ConfigurationRefused(f"not set: {' or '.join(names)}")


def given(
    readers: Mapping[str, tuple[str, Callable[[str], Any]]], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The settings whose variable is set, read; the others keep their default."""
    values: dict[str, Any] = {}
    for field, (name, read) in readers.items():
        if text := environ.get(name):
            try:
                values[field] = read(text)
            except ValueError as error:
                raise ConfigurationRefused(f"{name}: {error}") from error
    return values


def find_ca_bundle(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file of trusted certificate authorities, or None on a machine that has none.

    certifi comes last: the machine's own store is the one its operator maintains.
    """
    for name in ("EGRESS_CA_BUNDLE", "SSL_CERT_FILE"):
        if named := environ.get(name):
            return Path(named)
    found = next((path for path in CA_BUNDLES if path.is_file()), None)
    if found is not None:
        return found
    try:
        import certifi
    except ImportError:
        return None
    return Path(certifi.where())
