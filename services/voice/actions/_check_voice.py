"""Whether a tier includes the voice that is to speak."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from services.voice.domain.errors import SpeechRejected
from services.voice.domain.looks import Looks
from services.voice.domain.ports import SpeechProvider
from services.voice.domain.script import has_every_voice, has_voices_of_others, refuse_outside
from services.voice.domain.voice import VoiceId
from shared.errors import LimitReached, Unavailable, UpstreamFailed
from shared.identity import OnBehalfOf
from shared.tiers import Tier
from shared.vendors.failures import NoUsableKey

_LOOK_SECONDS = 2.0  # where nobody has to look, nobody waits for longer
# It says nothing of the voice, nor of whether the user has a key.
_TROUBLE = (UpstreamFailed, Unavailable, LimitReached, SpeechRejected, TimeoutError)


async def check_voice(
    voices: SpeechProvider, voice_id: VoiceId, tier: Tier, *, by: OnBehalfOf
) -> None:
    """Only a tier that leaves voices out pays for a look at the voice.

    Raises VoiceNotInTier, VoiceNotFound, and what the vendor says.
    """
    if not has_every_voice(tier):
        await _look_at(voices, voice_id, tier, by=by)


async def check_voice_before(
    voices: SpeechProvider, looks: Looks, voice_id: VoiceId, tier: Tier, *, by: OnBehalfOf
) -> None:
    """The same before something else is asked for that costs by itself: what its user can mend, a
    key that is missing or a voice that is none, is told in every tier. Where the tier includes
    every voice, trouble on the way to the vendor is no reason to refuse; for a while no other look
    is tried then.

    Raises VoiceNotInTier, VoiceNotFound, NoUsableKey, and what else the vendor says.
    """
    if not has_every_voice(tier):
        await _look_at(voices, voice_id, tier, by=by)
        return
    if looks.are_in_vain(by.user_id, voice_id):
        return
    with suppress(*_TROUBLE):
        async with asyncio.timeout(_LOOK_SECONDS):
            if await _look_at(voices, voice_id, tier, by=by):
                return
    looks.told_nothing(by.user_id, voice_id)


async def _look_at(
    voices: SpeechProvider, voice_id: VoiceId, tier: Tier, *, by: OnBehalfOf
) -> bool:
    """Whether the vendor told of it."""
    try:
        voice = await voices.voice(voice_id, by=by)
    except NoUsableKey as refused:
        # A key may be good for speaking and not for looking. Where all that the tier leaves out
        # are voices of the account's own, that is no reason to keep it silent.
        if refused.facts.get("reason") == "key_restricted" and has_voices_of_others(tier):
            return False
        raise
    refuse_outside(tier, voice)
    return True
