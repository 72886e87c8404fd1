"""A request for speech in ElevenLabs' wire, as an order.

https://elevenlabs.io/docs/api-reference/text-to-speech/convert

What we know is checked and named when it is wrong. Fields that we don't know are passed on as they
came, so that a newer SDK finds its vendor here; unknown names in the address are ignored, as the
vendor does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from services.voice.domain.script import LONGEST_SPEECH, Extras, SettingsWish, SpeechOrder
from shared.vendors.dropins import BadParameter

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LANGUAGE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
DEFAULT_FORMAT = "mp3_44100_128"  # the vendor's; every tier includes it, and every plan makes it
_LARGEST_EXTRAS = 64 << 10

_Share = Annotated[float, Field(ge=0, le=1)]
_Name = Annotated[str, Field(min_length=1, max_length=64, pattern=NAME)]
_Neighbour = Annotated[str, Field(max_length=LONGEST_SPEECH)]

# What the tier governs goes where it belongs, or nowhere: a vendor that one day reads these in a
# body must not find them there.
_GOVERNED = frozenset({"output_format", "voice_id", "voice", "model", "inputs"})


class DropInSettings(BaseModel):
    """How the voice should speak; what is left out is as in `POST /voice/speech`."""

    model_config = ConfigDict(extra="allow")

    stability: _Share | None = None
    similarity_boost: _Share | None = None
    style: _Share | None = None
    use_speaker_boost: bool | None = None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None

    def to_wish(self) -> SettingsWish:
        return SettingsWish(
            stability=self.stability,
            similarity_boost=self.similarity_boost,
            style=self.style,
            use_speaker_boost=self.use_speaker_boost,
            speed=self.speed,
        )


class Locator(BaseModel):
    """A dictionary of the user's at the vendor."""

    model_config = ConfigDict(extra="allow")

    pronunciation_dictionary_id: str = Field(max_length=200)
    version_id: str | None = Field(None, max_length=200)


class DropInSpeech(BaseModel):
    """What to say, and how; other fields are passed on to the vendor."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    text: str = Field(max_length=2 * LONGEST_SPEECH)
    model_id: _Name | None = None
    language_code: str | None = Field(None, max_length=35, pattern=LANGUAGE)
    voice_settings: DropInSettings | None = None
    seed: int | None = Field(None, ge=0, le=4_294_967_295)
    previous_text: _Neighbour | None = None
    next_text: _Neighbour | None = None
    previous_request_ids: list[_Name] | None = Field(None, max_length=3)
    next_request_ids: list[_Name] | None = Field(None, max_length=3)
    pronunciation_dictionary_locators: list[Locator] | None = Field(None, max_length=3)
    apply_text_normalization: Literal["auto", "on", "off"] | None = None
    apply_language_text_normalization: bool | None = None
    use_pvc_as_ivc: bool | None = None

    def to_order(
        self,
        voice_id: str,
        query: DropInQuery,
        *,
        with_timestamps: bool = False,
        at_once: bool = False,
    ) -> SpeechOrder:
        """Raises BadParameter."""
        return SpeechOrder(
            text=self.text,
            voice_id=voice_id,
            model=self.model_id,
            format=query.output_format,
            settings=(self.voice_settings or DropInSettings()).to_wish(),
            language_code=self.language_code,
            seed=self.seed,
            with_timestamps=with_timestamps,
            at_once=at_once,
            # An SDK's caller reads no note of ours: it gets what it asked for, or an error.
            strict_format=True,
            extras=_extras(self._further(), query),
        )

    def _further(self) -> dict[str, Any]:
        own = {"text", "model_id", "language_code", "voice_settings", "seed"}
        further = self.model_dump(exclude_none=True, exclude=own)
        settings = self.voice_settings.model_extra if self.voice_settings is not None else None
        said = {name: value for name, value in (settings or {}).items() if value is not None}
        further = {name: value for name, value in further.items() if name not in _GOVERNED}
        return {**further, "voice_settings": said} if said else further


class DropInQuery(BaseModel):
    """What stands in the address."""

    output_format: str = Field(DEFAULT_FORMAT, min_length=1, max_length=32, pattern=NAME)
    enable_logging: bool | None = None
    optimize_streaming_latency: int | None = Field(None, ge=0, le=4)

    def passed_on(self) -> str:
        said = []
        if self.enable_logging is not None:
            said.append(f"enable_logging={str(self.enable_logging).lower()}")
        if self.optimize_streaming_latency is not None:
            said.append(f"optimize_streaming_latency={self.optimize_streaming_latency}")
        return "&".join(said)


InQuery = Annotated[DropInQuery, Query()]


def _extras(further: dict[str, Any], query: DropInQuery) -> Extras | None:
    passed_on = query.passed_on()
    if not further and not passed_on:
        return None
    try:
        fields = orjson.dumps(further, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # too deep
        raise BadParameter("body", "flatter") from error
    if len(fields) > _LARGEST_EXTRAS:
        raise BadParameter("body", f"at most {_LARGEST_EXTRAS} bytes beside its text")
    return Extras(fields.decode(), passed_on)
