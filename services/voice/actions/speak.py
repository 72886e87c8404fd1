"""The hot path: admit, hold, call the vendor, and wait for the first audio."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.voice.actions.running_speech import RunningSpeech, RunningSpeeches
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.errors import AlreadySpoken
from services.voice.domain.ports import (
    Admission,
    EarlierSpeech,
    Reservation,
    Speeches,
    SpeechProvider,
)
from services.voice.domain.script import (
    Script,
    SpeechOrder,
    has_every_voice,
    refuse_outside,
    script_for,
)
from services.voice.domain.speech import Hold, Outcome, Settlement
from shared.clock import Clock
from shared.errors import NotInTier
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier, TierChanged
from shared.vendors.failures import VendorFailed

_SETTLE_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user wants to hear, and by which right."""

    order: SpeechOrder
    tier: Tier
    by: OnBehalfOf
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Speak:
    """Begin a speech.

    Nothing is charged unless audio comes: whatever goes wrong before gives the reservation back
    and closes the hold without usage.
    """

    speeches: Speeches
    admission: Admission
    provider: SpeechProvider
    settle: SettleSpeech
    running: RunningSpeeches
    catalogue: ModelCatalogue
    clock: Clock
    lease: timedelta = timedelta(seconds=30)
    sandbox: bool = field(default=False, kw_only=True)

    async def __call__(self, wish: Wish) -> RunningSpeech:
        """The speech with its audio begun; the caller relays it.

        Raises Invalid, SessionEnded, NotInTier, LimitReached, Unavailable, VoiceNotFound,
        RequestInProgress, AlreadySpoken, IdempotencyKeyReused, and what the vendor or the egress
        says.
        """
        try:
            return await self._speak(wish)
        except TierChanged as changed:
            return await self._speak(replace(wish, tier=changed.tier))
        except NotInTier:
            # Refused by what the token claims; the user may have upgraded a moment ago.
            told = await self.admission.tier_told_of(wish.by.user_id)
            if told is None or told == wish.tier.name:
                raise
            return await self._speak(replace(wish, tier=TierChanged(told).tier))

    async def _speak(self, wish: Wish) -> RunningSpeech:
        script = script_for(wish.order, wish.tier, self.catalogue)
        await self._refuse_repetition(wish)
        hold = self._hold(wish, script)
        reservation = await self.admission.admit(
            hold.user_id,
            wish.tier,
            script.characters,
            now=hold.created_at,
            reservation=hold.id,
        )
        try:
            await self._check_voice(script, wish)
            await self._write(hold, wish)
        except BaseException:
            await asyncio.shield(reservation.refund())
            raise
        return await self._begin(hold, script, reservation, wish.by)

    async def _refuse_repetition(self, wish: Wish) -> None:
        if wish.idempotency_key is None:
            return
        earlier = await self.speeches.earlier(wish.by.user_id, wish.idempotency_key)
        if earlier is not None:
            raise _repetition(earlier, wish)

    def _hold(self, wish: Wish, script: Script) -> Hold:
        now = self.clock.now()
        keyed = wish.idempotency_key is not None
        return Hold(
            user_id=wish.by.user_id,
            request_id=wish.by.request_id,
            tier=wish.tier.name,
            voice_id=script.voice_id,
            model=script.model,
            format=script.format.name,
            characters=script.characters,
            created_at=now,
            lease_expires_at=now + self.lease,
            sandbox=self.sandbox,
            idempotency_key=wish.idempotency_key,
            request_hash=wish.order.request_hash if keyed else None,
        )

    async def _check_voice(self, script: Script, wish: Wish) -> None:
        # Only a tier that leaves voices out pays for a look at the voice.
        if not has_every_voice(wish.tier):
            refuse_outside(wish.tier, await self.provider.voice(script.voice_id, by=wish.by))

    async def _write(self, hold: Hold, wish: Wish) -> None:
        if await self.speeches.hold(hold):
            return
        # Another request with this key came first, while we looked.
        await self._refuse_repetition(wish)
        raise RequestInProgress

    async def _begin(
        self, hold: Hold, script: Script, reservation: Reservation, by: OnBehalfOf
    ) -> RunningSpeech:
        speech = RunningSpeech(hold, script, reservation.limits, by.sign_in_id, by.served_by)
        self.running.add(speech)
        try:
            await speech.begin(self.provider.speak(script, by=by))
        except BaseException as failure:
            await asyncio.shield(self._give_up(speech, reservation, failure))
            raise
        return speech

    async def _give_up(
        self, speech: RunningSpeech, reservation: Reservation, failure: BaseException
    ) -> None:
        failed = isinstance(failure, VendorFailed)
        settlement = Settlement(Outcome.PROVIDER_FAILED if failed else Outcome.REFUSED, None)
        settling = self.running.conclude(speech, self.settle(speech.hold, settlement))
        await reservation.refund()
        # A retry with the same key should find it free; for a database that is away nobody waits.
        await asyncio.wait({settling}, timeout=_SETTLE_PATIENCE_SECONDS)


def _repetition(earlier: EarlierSpeech, wish: Wish) -> Exception:
    if earlier.request_hash != wish.order.request_hash:
        return IdempotencyKeyReused()
    if earlier.outcome is None:
        return RequestInProgress()
    return AlreadySpoken(earlier.id, earlier.outcome)
