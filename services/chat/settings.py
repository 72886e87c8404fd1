"""What may differ per deployment of chat."""

from __future__ import annotations

from pydantic import Field

from shared.settings import CommonSettings


class Settings(CommonSettings):
    """Chat's settings beside the common ones."""

    egress_url: str = Field(validation_alias="EGRESS_URL")
    model_overrides: str = Field("", validation_alias="MODEL_OVERRIDES")
    hold_lease_seconds: int = Field(30, validation_alias="CHAT_HOLD_LEASE_SECONDS", ge=5, le=600)
    first_byte_seconds: int = Field(60, validation_alias="CHAT_FIRST_BYTE_SECONDS", ge=1, le=600)
    silence_seconds: int = Field(120, validation_alias="CHAT_SILENCE_SECONDS", ge=1, le=600)
    history_characters: int = Field(
        24_000, validation_alias="CHAT_HISTORY_CHARACTERS", ge=1_000, le=2_000_000
    )
    drain_seconds: int = Field(20, validation_alias="CHAT_DRAIN_SECONDS", ge=0, le=600)
