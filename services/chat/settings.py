"""What may differ per deployment of chat."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from shared.model_catalogue import ModelCatalogue
from shared.settings import CommonSettings, HttpUrl
from shared.tiers import TIERS


class Settings(CommonSettings):
    """Chat's settings beside the common ones."""

    egress_url: HttpUrl = Field(validation_alias="EGRESS_URL")
    # Without it answers can't be spoken.
    voice_internal_url: HttpUrl | None = Field(None, validation_alias="VOICE_INTERNAL_URL")
    model_overrides: str = Field("", validation_alias="MODEL_OVERRIDES")
    model_contexts: str = Field("", validation_alias="MODEL_CONTEXTS")
    # An operator's own server; without its URL it is not offered.
    compatible_url: str = Field("", validation_alias="PROVIDER_COMPATIBLE_URL")
    compatible_models: str = Field("", validation_alias="COMPATIBLE_MODELS")
    hold_lease_seconds: int = Field(30, validation_alias="CHAT_HOLD_LEASE_SECONDS", ge=5, le=600)
    first_byte_seconds: int = Field(60, validation_alias="CHAT_FIRST_BYTE_SECONDS", ge=1, le=600)
    silence_seconds: int = Field(120, validation_alias="CHAT_SILENCE_SECONDS", ge=1, le=600)
    history_tokens: int = Field(
        24_000, validation_alias="CHAT_HISTORY_TOKENS", ge=1_000, le=1_000_000
    )
    image_bytes: int = Field(5 << 20, validation_alias="CHAT_IMAGE_BYTES", ge=1_000, le=20 << 20)
    retries: int = Field(2, validation_alias="CHAT_RETRIES", ge=0, le=5)
    retry_seconds: int = Field(30, validation_alias="CHAT_RETRY_SECONDS", ge=0, le=300)
    longest_turn_seconds: int = Field(
        600, validation_alias="CHAT_LONGEST_TURN_SECONDS", ge=10, le=3600
    )
    # How long usage of an unpaid tier may wait in the outbox until new calls of it do; 0: any time.
    shed_after_seconds: int = Field(
        900, validation_alias="CHAT_SHED_AFTER_SECONDS", ge=0, le=86_400
    )
    drain_seconds: int = Field(20, validation_alias="CHAT_DRAIN_SECONDS", ge=0, le=600)

    @property
    def catalogue(self) -> ModelCatalogue:
        """The models of this deployment. Raises ValueError."""
        own = self.compatible_models if self.compatible_url else ""
        return ModelCatalogue.from_json(self.model_overrides, self.model_contexts, own)

    @model_validator(mode="after")
    def _models_can_be_read(self) -> Self:
        catalogue = self.catalogue
        if self.compatible_url and not catalogue.has_own_server:
            raise ValueError("PROVIDER_COMPATIBLE_URL needs COMPATIBLE_MODELS")
        if catalogue.own_tiers - set(TIERS):
            raise ValueError(f"COMPATIBLE_MODELS: there are the tiers {', '.join(TIERS)}, and *")
        return self
