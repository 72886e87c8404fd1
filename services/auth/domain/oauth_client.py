"""A program that may send people to our login page and gets codes in return (RFC 6749)."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from services.auth.domain.errors import InvalidClientName, InvalidRedirectUri
from shared.values import dataclass

LONGEST_NAME = 100
MOST_REDIRECT_URIS = 10
_LONGEST_URI = 1000
_CLIENT_ID = re.compile(r"[0-9a-f]{24}")
# RFC 3986's characters, without those of a fragment and those that end a header or an attribute.
_URI = re.compile(r"[A-Za-z0-9:/?@!$&()*+,=._~%\[\]-]+")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def is_client_id(text: str) -> bool:
    """Whether we could have given this id to a client."""
    return _CLIENT_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RedirectUri:
    """An address that a client has registered, in the one spelling that it will be asked for with.

    https, or http to the machine's own loopback address: there a program that listens on whatever
    port is free may name any port (RFC 8252, section 7.3). Everything else is compared exactly.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidRedirectUri, which says what is wrong."""
        if not 1 <= len(text) <= _LONGEST_URI or not _URI.fullmatch(text):
            raise InvalidRedirectUri("It holds characters that a redirect URI may not have.")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise InvalidRedirectUri("It is no URL.") from error
        host = parts.hostname or ""
        if parts.scheme not in ("https", "http") or urlunsplit(parts) != text:
            raise InvalidRedirectUri("It must begin with https:// (or http:// on loopback).")
        if parts.scheme == "http" and not _is_loopback(host):
            raise InvalidRedirectUri("http is for 127.0.0.1 and [::1] only; use https.")
        if parts.netloc != _authority(host, port) or not (_HOST.fullmatch(host) or ":" in host):
            raise InvalidRedirectUri("Its host must be plain and in lower case, without a user.")
        if not parts.path.startswith("/") or {".", ".."} & set(parts.path.split("/")):
            raise InvalidRedirectUri("It must have a path, without dot segments.")
        if "*" in text:
            raise InvalidRedirectUri("It is compared exactly: there are no wildcards.")
        return cls(text)

    def fits(self, asked: str) -> bool:
        """Whether this is the address that is asked for."""
        return asked == self.text or (self._is_of_this_machine and self._fits_at_any_port(asked))

    @property
    def _is_of_this_machine(self) -> bool:
        return self.text.startswith("http://")

    def _fits_at_any_port(self, asked: str) -> bool:
        try:
            # Held to the same rules: no second spelling of a host or a port gets this far.
            parts = urlsplit(type(self).parse(asked).text)
        except InvalidRedirectUri:
            return False
        known = urlsplit(self.text)
        return parts._replace(netloc=known.netloc) == known and parts.hostname == known.hostname


def _is_loopback(host: str) -> bool:
    try:
        # A name such as localhost may lead elsewhere (RFC 8252, section 8.3).
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A public client: it has no secret, so its redirect URIs are what tells it from others."""

    client_id: str
    name: str
    redirect_uris: tuple[RedirectUri, ...]
    created_at: datetime
    disabled_at: datetime | None = None

    @classmethod
    def registered(cls, name: str, redirect_uris: Sequence[str], at: datetime) -> Self:
        """Raises InvalidClientName or InvalidRedirectUri."""
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
            raise InvalidClientName
        known = tuple(dict.fromkeys(RedirectUri.parse(uri) for uri in redirect_uris))
        if not 1 <= len(known) <= MOST_REDIRECT_URIS:
            raise InvalidRedirectUri(f"A client has 1 to {MOST_REDIRECT_URIS} of them.")
        return cls(secrets.token_hex(12), name, known, at)

    @property
    def is_enabled(self) -> bool:
        return self.disabled_at is None

    def may_return_to(self, redirect_uri: str) -> bool:
        """Whether a code may be sent there."""
        return any(known.fits(redirect_uri) for known in self.redirect_uris)

    def disabled(self, at: datetime) -> Self:
        return replace(self, disabled_at=self.disabled_at or at)
