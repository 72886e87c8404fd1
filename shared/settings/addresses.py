"""Types of settings that say where somebody is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, SecretStr


def _is_usable(parts: SplitResult, schemes: tuple[str, ...]) -> bool:
    return (
        parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    )


def _of_form(form: str, *schemes: str) -> Callable[[str], str]:
    def check(url: str) -> str:
        try:
            usable = _is_usable(urlsplit(url), schemes)
        except ValueError:  # a port that is none, brackets that don't match
            usable = False
        if not usable or any(letter.isspace() for letter in url):
            raise ValueError(f"it must be of the form {form}")
        return url

    return check


def _secret(check: Callable[[str], str]) -> AfterValidator:
    def check_secret(url: SecretStr) -> SecretStr:
        check(url.get_secret_value())
        return url

    return AfterValidator(check_secret)


_http = _of_form("http(s)://host[:port][/path]", "http", "https")
_database = _of_form(
    "postgresql://user:password@host:port", "postgresql", "postgres", "postgresql+psycopg2"
)
_cache = _of_form("redis(s)://[user:password@]host:port/number", "redis", "rediss")
_broker = _of_form(
    "amqp(s)://user:password@host:port/vhost or redis(s)://…", "amqp", "amqps", "redis", "rediss"
)

HttpUrl = Annotated[str, AfterValidator(_http)]
"""The base URL of a server that speaks HTTP."""

DatabaseUrl = Annotated[SecretStr, _secret(_database)]
"""A PostgreSQL server, with who we are there."""

CacheUrl = Annotated[SecretStr, _secret(_cache)]
"""A Valkey server."""

BrokerUrl = Annotated[SecretStr, _secret(_broker)]
"""RabbitMQ, or Valkey in its place."""
