"""What may differ per deployment of voice."""

from __future__ import annotations

from pydantic import Field

from shared.settings import CommonSettings


class Settings(CommonSettings):
    """Voice's settings beside the common ones."""

    egress_url: str = Field(validation_alias="EGRESS_URL")
    model_overrides: str = Field("", validation_alias="MODEL_OVERRIDES")
    hold_lease_seconds: int = Field(30, validation_alias="VOICE_HOLD_LEASE_SECONDS", ge=1, le=600)
    first_byte_seconds: int = Field(60, validation_alias="VOICE_FIRST_BYTE_SECONDS", ge=1, le=600)
    silence_seconds: int = Field(30, validation_alias="VOICE_SILENCE_SECONDS", ge=1, le=600)
    drain_seconds: int = Field(10, validation_alias="VOICE_DRAIN_SECONDS", ge=0, le=600)
