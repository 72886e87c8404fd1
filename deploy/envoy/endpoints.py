"""Where a proxy listens and whom it calls: the addresses that both configurations are made of."""

import os
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from shared.values import dataclass

# Where distributions keep the certificate authorities they trust: Debian, RHEL, SUSE, Alpine.
CA_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)

# As the services read a setting that is on or off.
_YES = {"1", "true", "t", "yes", "y", "on"}
_NO = {"", "0", "false", "f", "no", "n", "off"}

_MOST = 2**31 - 1
_DAY_SECONDS = 86_400
# Not less than the pause before a second try.
_LEAST_PATIENCE_SECONDS = 0.05
_MOST_PATIENCE_SECONDS = 60

T = TypeVar("T")

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
        parts = _split(f"//{text}")
        port = _port(parts)
        if not parts.hostname or not port or parts.path or parts.query or "@" in text:
            raise ConfigurationRefused("it must be of the form host:port")
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
        parts = _split(url)
        path = parts.path.rstrip("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigurationRefused("it must be of the form http(s)://host[:port][/path]")
        if parts.query or parts.fragment or not _BASE_PATH.fullmatch(path):
            raise ConfigurationRefused("a base URL has a plain path and no query")
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


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # brackets that do not match
        raise ConfigurationRefused("it names no host") from error


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise ConfigurationRefused("its port is none") from error


def parse_admin(text: str) -> Endpoint | Path:
    """Read where the admin interface lives: a socket's path, or a loopback `host:port`."""
    return Path(text) if "/" in text else Endpoint.parse(text)


def refuse_open_admin(admin: Endpoint | Path) -> None:
    """The admin interface can print configuration and raise the log level: never a network's."""
    if isinstance(admin, Endpoint) and not admin.is_loopback:
        raise ConfigurationRefused(
            "GATEWAY_ADMIN or EGRESS_ADMIN: the admin interface must be a socket or on loopback"
        )


def flag(environ: Mapping[str, str], name: str) -> bool:
    """Whether an environment variable says yes."""
    text = environ.get(name, "").strip().lower()
    if text not in _YES | _NO:
        raise ConfigurationRefused(f"{name}: it must be 1 or 0")
    return text in _YES


def required(environ: Mapping[str, str], *names: str) -> Endpoint:
    """The endpoint in the first of these variables that is set."""
    for name in names:
        if environ.get(name):
            return read(environ, name, Endpoint.parse)
    raise ConfigurationRefused(f"not set: {' or '.join(names)}")


def given(
    readers: Mapping[str, tuple[str, Callable[[str], Any]]], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The settings whose variable is set, read; the others keep their default."""
    values: dict[str, Any] = {}
    for field, (name, parse) in readers.items():
        if environ.get(name):
            values[field] = read(environ, name, parse)
    return values


def read(environ: Mapping[str, str], name: str, parse: Callable[[str], T], default: str = "") -> T:
    """What a variable says. Raises ConfigurationRefused, which names it and does not repeat it."""
    try:
        return parse(environ.get(name) or default)
    except ConfigurationRefused as refused:
        raise ConfigurationRefused(f"{name}: {refused}") from refused
    except ValueError as error:
        raise ConfigurationRefused(f"{name}: it must be a number") from error


def whole(text: str, *, least: int = 0, most: int = _MOST) -> int:
    """A number that counts something, and that Envoy can hold."""
    number = int(text)
    if number < least:
        raise ConfigurationRefused(f"it must be {least} or more")
    if number > most:
        raise ConfigurationRefused(f"it must be {most} at most")
    return number


def positive(text: str) -> int:
    """A number without which Envoy does not start, or does not protect."""
    return whole(text, least=1)


def seconds(text: str) -> int:
    """A time of a day at most; 0: without a limit."""
    return whole(text, most=_DAY_SECONDS)


def positive_seconds(text: str) -> int:
    """A time without which Envoy does not start, or does not protect."""
    return whole(text, least=1, most=_DAY_SECONDS)


def patience_seconds(text: str) -> float:
    """How long to wait for an answer on which a call depends, to the millisecond."""
    number = float(text)
    if not _LEAST_PATIENCE_SECONDS <= number <= _MOST_PATIENCE_SECONDS:
        raise ConfigurationRefused(
            f"it must be from {_LEAST_PATIENCE_SECONDS} to {_MOST_PATIENCE_SECONDS} seconds"
        )
    return round(number, 3)


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
