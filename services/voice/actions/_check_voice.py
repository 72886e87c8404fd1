"""Whether a tier includes the voice that is to speak."""

from __future__ import annotations

from services.voice.domain.ports import SpeechProvider
from services.voice.domain.script import has_every_voice, has_voices_of_others, refuse_outside
from services.voice.domain.voice import VoiceId
from shared.identity import OnBehalfOf
from shared.tiers import Tier
from shared.vendors.failures import NoUsableKey


async def check_voice(
    voices: SpeechProvider, voice_id: VoiceId, tier: Tier, *, by: OnBehalfOf
) -> None:
    """Only a tier that leaves voices out pays for a look at the voice.

    Raises VoiceNotInTier, VoiceNotFound, and what the vendor says.
    """
    if has_every_voice(tier):
        return
    try:
        voice = await voices.voice(voice_id, by=by)
    except NoUsableKey as refused:
        # A key may be good for speaking and not for looking. Where all that the tier leaves out
        # are voices of the account's own, that is no reason to keep it silent.
        if refused.facts.get("reason") == "key_restricted" and has_voices_of_others(tier):
            return
        raise
    refuse_outside(tier, voice)
