"""Settings that every service reads, once, when it starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared.settings.addresses import BrokerUrl, CacheUrl, DatabaseUrl, HttpUrl
from shared.settings.refused import SettingsRefused, file_of, port_of, stop_with_sentence
from shared.settings.secret_files import SecretFiles, name_of, with_secret_files
from shared.settings.unknown import report_unknown_settings, told, unknown_settings

__all__ = [
    "BrokerUrl",
    "CacheUrl",
    "CommonSettings",
    "DatabaseUrl",
    "EnvironmentSettings",
    "HttpUrl",
    "LogLevel",
    "SettingsRefused",
    "file_of",
    "port_of",
    "report_unknown_settings",
    "service_database_url",
    "stop_with_sentence",
    "unknown_settings",
    "with_secret_files",
]

LogLevel = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(lambda level: level.lower()),
]
"""How much is logged."""


class EnvironmentSettings(BaseSettings):
    """What a process reads from its environment, where an empty variable counts as unset. A secret
    may be in a file, which `<NAME>_FILE` names."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    # Whether a setting that nobody knows is a reason not to start.
    strict: bool = Field(False, validation_alias="COMPANION_STRICT_SETTINGS")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The files of secrets, and the variables."""
        del dotenv_settings, file_secret_settings
        return init_settings, SecretFiles(settings_cls), env_settings

    @classmethod
    def from_environment(cls) -> Self:
        """Read the process environment.

        Raises SettingsRefused, which names what is missing or wrong and never a value.
        """
        try:
            settings = cls()
        except (ValidationError, SettingsError) as error:
            names = {field: name_of(info, field) for field, info in cls.model_fields.items()}
            raise SettingsRefused.of(error, names) from None
        if settings.strict and (unknown := unknown_settings(os.environ)):
            raise SettingsRefused(f"Nobody knows the settings {told(unknown)}.")
        return settings


class CommonSettings(EnvironmentSettings):
    """What may differ per deployment for any service. Subclasses add their own, prefixed."""

    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL")
    cache_url: CacheUrl = Field(validation_alias="CACHE_URL")
    broker_url: BrokerUrl = Field(validation_alias="BROKER_URL")
    database_connections: int = Field(10, validation_alias="DATABASE_CONNECTIONS", ge=1, le=200)

    jwks_url: HttpUrl = Field(validation_alias="JWKS_URL")
    token_issuer: str = Field("https://companion.invalid/auth", validation_alias="TOKEN_ISSUER")
    token_audience: str = Field("companion", validation_alias="TOKEN_AUDIENCE")
    identity_key_file: Path = Field(validation_alias="IDENTITY_KEY_FILE")
    identity_trust_file: Path = Field(validation_alias="IDENTITY_TRUST_FILE")

    environment: Literal["development", "test", "production"] = Field(
        "development", validation_alias="COMPANION_ENVIRONMENT"
    )
    sandbox: bool = Field(False, validation_alias="SANDBOX")
    log_level: LogLevel = Field("info", validation_alias="LOG_LEVEL")
    # Made by a process without a port once it does its work; whoever started it may wait for it.
    ready_file: Path | None = Field(None, validation_alias="READY_FILE")
    # Where a process without a port answers GET /metrics; 0 is nowhere.
    metrics_host: str = Field("127.0.0.1", validation_alias="METRICS_HOST")
    metrics_port: int = Field(0, validation_alias="METRICS_PORT", ge=0, le=65535)
    # A worker takes the queues of this tier alone; unset, all. The worker knows the tiers.
    worker_tier: str | None = Field(None, validation_alias="WORKER_TIER")


def service_database_url(server_url: str, service: str) -> str:
    """The URL of one service's own database on the server that `DATABASE_URL` names."""
    parts = urlsplit(server_url)
    return urlunsplit(parts._replace(path=f"/companion_{service}"))
