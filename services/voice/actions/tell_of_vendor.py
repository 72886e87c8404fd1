"""Voices and models as their vendor tells of them, within what the tier includes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.voice.actions._hidden_voices import refuse_hidden
from services.voice.domain.ports import NewUnitOfWork
from services.voice.domain.script import (
    VENDOR,
    granted_models,
    includes_voice,
    refuse_outside,
    speech_allowance,
)
from services.voice.domain.told import Query, TellingVendor, ToldVoice, ToldVoices
from services.voice.domain.voice import VoiceCategory, voice_id_of
from shared.identity import OnBehalfOf
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier
from shared.values import dataclass

# What the vendor calls the one category that a tier may be limited to.
_STOCK = "premade"
_CATEGORY = "category"


@dataclass(frozen=True, slots=True)
class TellOfVendor:
    """What the user's key reaches and their tier includes. Voices that were made for others who
    share the key are not among them, nor those that were deleted, whether or not the vendor knows
    yet."""

    vendor: TellingVendor
    unit_of_work: NewUnitOfWork
    catalogue: ModelCatalogue

    async def voices(self, query: Query, tier: Tier, *, by: OnBehalfOf) -> ToldVoices:
        """All of them. Raises SpeechNotInTier, or what the vendor raises."""
        speech_allowance(tier)
        return await self._included(await self.vendor.list_voices(query, by=by), tier, by)

    async def search(self, query: Query, tier: Tier, *, by: OnBehalfOf) -> ToldVoices:
        """A page of them. Raises SpeechNotInTier, or what the vendor raises."""
        if speech_allowance(tier).voice_categories == {VoiceCategory.BASIC}:
            # Asked for at the vendor, so that its pages and its count are of these alone.
            asked = [value for name, value in query if name == _CATEGORY]
            if any(value != _STOCK for value in asked):
                return ToldVoices((), {"has_more": False, "total_count": 0})
            query = [pair for pair in query if pair[0] != _CATEGORY] + [(_CATEGORY, _STOCK)]
        return await self._included(await self.vendor.search_voices(query, by=by), tier, by)

    async def voice(self, voice_id: str, tier: Tier, *, by: OnBehalfOf) -> ToldVoice:
        """One of them. Raises VoiceNotFound, VoiceNotInTier, or what the vendor raises."""
        told = await self.vendor.tell_voice(voice_id_of(voice_id), by=by)
        await refuse_hidden(self.unit_of_work, told.voice.id, by.user_id)
        refuse_outside(tier, told.voice)
        return told

    async def models(self, tier: Tier, *, by: OnBehalfOf) -> Sequence[Mapping[str, Any]]:
        """The models that the user may name. Raises SpeechNotInTier, or what the vendor raises."""
        granted = granted_models(tier, self.catalogue)
        every = tier.allows(VENDOR, "custom_models")
        told = await self.vendor.list_models(by=by)
        return [model.words for model in told if every or model.id in granted]

    async def _included(self, told: ToldVoices, tier: Tier, by: OnBehalfOf) -> ToldVoices:
        asked = [each.voice.id for each in told.voices]
        async with self.unit_of_work() as work:
            hidden = await work.clones.hidden_from(by.user_id, asked)
        voices = [
            each
            for each in told.voices
            if includes_voice(tier, each.voice) and each.voice.id not in hidden
        ]
        return replace(told, voices=voices)
