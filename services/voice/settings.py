"""What may differ per deployment of voice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from services.voice.domain.kept_speech import Bounds
from shared.model_catalogue import ModelCatalogue
from shared.settings import CommonSettings, HttpUrl


class Settings(CommonSettings):
    """Voice's settings beside the common ones."""

    egress_url: HttpUrl = Field(validation_alias="EGRESS_URL")
    # Whether somebody decides about an organisation's voices, is asked there.
    auth_internal_url: HttpUrl | None = Field(None, validation_alias="AUTH_INTERNAL_URL")
    model_overrides: str = Field("", validation_alias="MODEL_OVERRIDES")
    hold_lease_seconds: int = Field(30, validation_alias="VOICE_HOLD_LEASE_SECONDS", ge=1, le=600)
    first_byte_seconds: int = Field(60, validation_alias="VOICE_FIRST_BYTE_SECONDS", ge=1, le=600)
    silence_seconds: int = Field(30, validation_alias="VOICE_SILENCE_SECONDS", ge=1, le=600)
    # How long usage of an unpaid tier may wait in the outbox until new calls of it do; 0: any time.
    shed_after_seconds: int = Field(
        900, validation_alias="VOICE_SHED_AFTER_SECONDS", ge=0, le=86_400
    )
    drain_seconds: int = Field(10, validation_alias="VOICE_DRAIN_SECONDS", ge=0, le=600)

    # What users had said before. Without the keys nothing is kept.
    cache_keys_file: Path | None = Field(None, validation_alias="VOICE_CACHE_KEYS_FILE")
    cache_characters: int = Field(1_000, validation_alias="VOICE_CACHE_CHARACTERS", ge=0, le=5_000)
    cache_utterance_bytes: int = Field(
        1 << 20, validation_alias="VOICE_CACHE_UTTERANCE_BYTES", ge=1, le=16 << 20
    )
    cache_entries: int = Field(500, validation_alias="VOICE_CACHE_ENTRIES", ge=1, le=100_000)
    cache_bytes: int = Field(32 << 20, validation_alias="VOICE_CACHE_BYTES", ge=1, le=1 << 40)
    cache_days: int = Field(30, validation_alias="VOICE_CACHE_DAYS", ge=1, le=3_650)

    # The engine on our own machine; off unless it is named.
    offline_engine: Literal["", "espeak-ng"] = Field("", validation_alias="VOICE_OFFLINE_ENGINE")
    offline_voice: str = Field(
        "espeak-en-us", validation_alias="VOICE_OFFLINE_VOICE", pattern=r"^espeak-[a-z0-9-]{1,40}$"
    )
    offline_at_once: int = Field(2, validation_alias="VOICE_OFFLINE_AT_ONCE", ge=1, le=64)
    offline_seconds: int = Field(20, validation_alias="VOICE_OFFLINE_SECONDS", ge=1, le=120)
    # Whether requests that name no engine mean any engine.
    offline_fallback: bool = Field(False, validation_alias="VOICE_OFFLINE_FALLBACK")

    @field_validator("model_overrides")
    @classmethod
    def _models_can_be_read(cls, text: str) -> str:
        ModelCatalogue.from_json(text)
        return text

    @property
    def cache_bounds(self) -> Bounds:
        """How much is kept of one user."""
        return Bounds(
            characters=self.cache_characters,
            bytes=self.cache_utterance_bytes,
            entries_of_user=self.cache_entries,
            bytes_of_user=self.cache_bytes,
            age=timedelta(days=self.cache_days),
        )
