"""What may differ per deployment of auth."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from shared.settings import CommonSettings

# Argon2id's least acceptable memory by passes, in KiB (OWASP ASVS 5.0, appendix C).
_LEAST_MEMORY_KIB = {1: 47_104, 2: 19_456, 3: 12_288}


class Settings(CommonSettings):
    """What may differ per deployment of auth."""

    signing_keys_file: Path | None = Field(None, validation_alias="AUTH_SIGNING_KEYS_FILE")
    # The gateway lets no token live longer than 20 minutes.
    access_token_minutes: int = Field(15, validation_alias="AUTH_ACCESS_TOKEN_MINUTES", ge=1, le=15)
    refresh_idle_days: int = Field(14, validation_alias="AUTH_REFRESH_IDLE_DAYS", ge=1, le=90)
    refresh_absolute_days: int = Field(
        90, validation_alias="AUTH_REFRESH_ABSOLUTE_DAYS", ge=1, le=365
    )
    refresh_grace_seconds: int = Field(
        10, validation_alias="AUTH_REFRESH_GRACE_SECONDS", ge=0, le=60
    )

    argon2_passes: int = Field(3, validation_alias="AUTH_ARGON2_PASSES", ge=1, le=20)
    argon2_memory_kib: int = Field(
        65_536, validation_alias="AUTH_ARGON2_MEMORY_KIB", ge=32, le=1 << 20
    )
    argon2_lanes: int = Field(4, validation_alias="AUTH_ARGON2_LANES", ge=1, le=16)
    passwords_at_once: int = Field(2, validation_alias="AUTH_PASSWORDS_AT_ONCE", ge=1, le=32)
    passwords_waiting: int = Field(64, validation_alias="AUTH_PASSWORDS_WAITING", ge=0, le=1000)

    login_failures: int = Field(5, validation_alias="AUTH_LOGIN_FAILURES", ge=1, le=100)
    login_window_minutes: int = Field(
        15, validation_alias="AUTH_LOGIN_WINDOW_MINUTES", ge=1, le=24 * 60
    )

    # Where the others tell whether they are ready, by name: {"chat": "http://…/readyz"}.
    peers_health: dict[str, str] = Field(default_factory=dict, validation_alias="AUTH_PEERS_HEALTH")

    @model_validator(mode="after")
    def _passwords_are_hashed_well(self) -> Self:
        least = _LEAST_MEMORY_KIB[min(self.argon2_passes, 3)]
        if self.argon2_memory_kib < least and self.environment != "test":
            raise ValueError(
                f"AUTH_ARGON2_MEMORY_KIB must be {least} or more with this many passes"
            )
        return self

    @property
    def access_lifetime(self) -> timedelta:
        """How long an access token is good."""
        return timedelta(minutes=self.access_token_minutes)
