"""What may differ per deployment of chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from shared.model_catalogue import ModelCatalogue
from shared.settings import CommonSettings, HttpUrl
from shared.tiers import TIERS

_MOST_PER_SECOND = 10_000.0
_NO_PACE = (
    "CHAT_TURNS_PER_SECOND: one number from 0 to 10000 for each of some of the tiers "
    f"{', '.join(TIERS)}, as in free=20"
)


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
    # How long pieces of an answer may wait for each other; 0: each goes by itself.
    gather_milliseconds: int = Field(40, validation_alias="CHAT_GATHER_MILLISECONDS", ge=0, le=100)
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
    # By tier, on each replica: free=20,pro=200; 0: no pace.
    turns_per_second: str = Field("", validation_alias="CHAT_TURNS_PER_SECOND")
    turns_wait_seconds: float = Field(5, validation_alias="CHAT_TURNS_WAIT_SECONDS", ge=0, le=60)
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

    @property
    def paces(self) -> Mapping[str, float]:
        """How many turns a second each tier begins here; none for a tier that is not named. Raises
        ValueError."""
        pairs = [pair.partition("=") for pair in self.turns_per_second.split(",") if pair.strip()]
        rates = {_tier(name): _rate(text) for name, _, text in pairs}
        if len(rates) < len(pairs):
            raise ValueError(_NO_PACE)
        return {tier: rate for tier, rate in rates.items() if rate}

    @model_validator(mode="after")
    def _paces_can_be_read(self) -> Self:
        _ = self.paces
        return self


def _tier(name: str) -> str:
    if name.strip() not in TIERS:
        raise ValueError(_NO_PACE)
    return name.strip()


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= _MOST_PER_SECOND:
        raise ValueError(_NO_PACE)
    return rate
