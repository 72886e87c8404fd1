"""Where mails are handed in, as one URL says it."""

from __future__ import annotations

import ipaddress
from dataclasses import field
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class MailServer:
    """An SMTP server: `smtps://…`, or `smtp://…?starttls=1`; unencrypted on this machine only."""

    host: str
    port: int
    tls_from_the_start: bool
    starttls: bool
    user: str | None
    password: str | None = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError, without the URL, which may hold a password."""
        try:
            parts = urlsplit(url)
            implicit = {"smtp": False, "smtps": True}[parts.scheme]
            host, port = parts.hostname, parts.port
            options = parse_qs(parts.query, strict_parsing=bool(parts.query))
        except (ValueError, KeyError) as error:
            raise ValueError("it is not of the form smtp://… or smtps://…") from error
        if not host or set(options) - {"starttls"}:
            raise ValueError("it names no host, or has an unknown option")
        starttls = options.get("starttls", ["0"])[-1] == "1"
        if not implicit and not starttls and not _is_loopback(host):
            raise ValueError("say smtps://… or ?starttls=1: mails hold secrets")
        return cls(
            host=host,
            port=port or (465 if implicit else 587 if starttls else 25),
            tls_from_the_start=implicit,
            starttls=starttls,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
