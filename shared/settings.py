"""Settings that every service reads, once, when it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CommonSettings(BaseSettings):
    """What may differ per deployment for any service. Subclasses add their own, prefixed."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    cache_url: SecretStr = Field(validation_alias="CACHE_URL")
    broker_url: SecretStr = Field(validation_alias="BROKER_URL")
    database_connections: int = Field(10, validation_alias="DATABASE_CONNECTIONS", ge=1, le=200)

    jwks_url: str = Field(validation_alias="JWKS_URL")
    token_issuer: str = Field("https://companion.invalid/auth", validation_alias="TOKEN_ISSUER")
    token_audience: str = Field("companion", validation_alias="TOKEN_AUDIENCE")
    identity_key_file: Path = Field(validation_alias="IDENTITY_KEY_FILE")
    identity_trust_file: Path = Field(validation_alias="IDENTITY_TRUST_FILE")

    environment: str = Field("development", validation_alias="COMPANION_ENVIRONMENT")
    sandbox: bool = Field(False, validation_alias="SANDBOX")
    log_level: str = Field("info", validation_alias="LOG_LEVEL")
    # Made by a process without a port once it does its work; whoever started it may wait for it.
    ready_file: Path | None = Field(None, validation_alias="READY_FILE")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the process environment.

        Raises pydantic.ValidationError (without the values) when a setting is missing or wrong.
        """
        return cls()


def service_database_url(server_url: str, service: str) -> str:
    """The URL of one service's own database on the server that `DATABASE_URL` names."""
    parts = urlsplit(server_url)
    return urlunsplit(parts._replace(path=f"/companion_{service}"))
