"""The hot path: admit, hold, call the vendor, and wait for the first audio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import field, replace
from datetime import datetime, timedelta

from services.voice.actions._admitted_beside import admitted_beside
from services.voice.actions._check_voice import check_voice
from services.voice.actions._spoken_before import SpokenBefore
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.withdraw_hold import WithdrawHold
from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.errors import AlreadySpoken, FormatNotInVendorPlan
from services.voice.domain.formats_in_plan import FormatsInPlan
from services.voice.domain.offline_engine import (
    OFFLINE_ENGINE,
    OfflineEngine,
    offline_order,
    offline_script_for,
    provider_of,
)
from services.voice.domain.own_settings import filled
from services.voice.domain.ports import (
    Admission,
    Audio,
    EarlierSpeech,
    Reservation,
    SpeechAhead,
    Speeches,
    SpeechProvider,
    TimedAudio,
)
from services.voice.domain.recital import Recital
from services.voice.domain.running_speech import RunningSpeech, RunningSpeeches
from services.voice.domain.script import (
    Script,
    SettingsWish,
    SpeechOrder,
    others_for,
    script_for,
    speech_allowance,
)
from services.voice.domain.speech import Hold, Outcome, Settlement, SpeechId
from services.voice.domain.whole_audio import WholeAudio
from shared.ahead import Ahead
from shared.clock import Clock
from shared.errors import ExpectedFailure, Unavailable, after_counting
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.ids import uuid7
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier, by_current_tier
from shared.values import dataclass
from shared.vendors.failures import NoUsableKey, VendorFailed, VendorPlanRequired

_SETTLE_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user wants to hear, and by which right."""

    order: SpeechOrder
    tier: Tier
    by: OnBehalfOf
    idempotency_key: str | None = None
    may_be_cached: bool = True  # said again from what was kept, and kept to be said again
    any_engine: bool = False  # rather plain speech than none, where there is no usable key
    said_as: SpeechOrder | None = None  # what stands in for the order then


@dataclass(frozen=True, slots=True)
class _Found:
    """What is wished for, the same in a format that the user's plan makes, and its audio where it
    was said before."""

    wished: Script
    script: Script
    recalled: bytes | None = None


@dataclass(frozen=True, slots=True)
class _LetIn:
    """A wish that has its place in the limits, and the hold that is to be written for it."""

    found: _Found
    hold: Hold
    parts: Sequence[Script]
    reservation: Reservation
    is_replayed: bool


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
    formats: FormatsInPlan
    withdraw: WithdrawHold
    lease: timedelta = timedelta(seconds=30)
    sandbox: bool = field(default=False, kw_only=True)
    before: SpokenBefore | None = field(default=None, kw_only=True)
    offline: OfflineEngine | None = field(default=None, kw_only=True)

    async def __call__(self, wish: Wish) -> RunningSpeech:
        """The speech with its audio begun; the caller relays it.

        Raises Invalid, SessionEnded, NotInTier, LimitReached, Unavailable, VoiceNotFound,
        RequestInProgress, AlreadySpoken, IdempotencyKeyReused, and what the vendor or the egress
        says.
        """
        try:
            return await self._spoken(wish)
        except NoUsableKey:
            instead = offline_order(wish.order, self.offline) if wish.any_engine else None
            if instead is None:
                raise
            return await self._spoken(replace(wish, said_as=instead))

    async def _spoken(self, wish: Wish) -> RunningSpeech:
        return await by_current_tier(
            wish.tier,
            lambda: self.admission.tier_told_of(wish.by.user_id),
            lambda tier: self._speak(replace(wish, tier=tier)),
        )

    async def _speak(self, wish: Wish) -> RunningSpeech:
        let_in = await self._let_in(wish)
        found, hold, parts = let_in.found, let_in.hold, let_in.parts
        script, recalled, reservation = found.script, found.recalled, let_in.reservation
        begun: Ahead[SpeechAhead] | None = None
        try:
            await self._check_voice(script, wish)
            if self._is_asked_for(script, recalled):
                begun = self._ahead(parts[0], wish)
            await self._write(hold, wish)
        except BaseException:
            if begun is not None:
                begun.leave()
            await asyncio.shield(reservation.refund())
            raise
        speech = RunningSpeech(
            hold,
            script,
            reservation,
            wish.by.sign_in_id,
            wish.by.organisation_id,
            wish.by.key,
            recalled=recalled,
            may_be_kept=wish.may_be_cached and self._is_asked_for(script, recalled),
            is_replayed=let_in.is_replayed,
        )
        await self._begin(speech, parts, wish, begun)
        if self._is_asked_for(script, recalled):
            # Only now is it known whether the format that was wished for is the one that comes.
            self.formats.remember(wish.by.user_id, found.wished.format, speech.script.format)
        if speech.script.format != found.wished.format:
            speech.wished_format = found.wished.format
        return speech

    async def _let_in(self, wish: Wish) -> _LetIn:
        id_, now = SpeechId(uuid7()), self.clock.now()
        wished = self._script(wish)
        script = self._in_known_format(wished, wish)
        reservation, is_replayed = None, False
        if self._has_place_whatever_is_found(script, wish):
            found, reservation = await admitted_beside(
                self._recollected(wish, wished, script),
                self.admission.admit(
                    wish.by.user_id, wish.tier, script.characters, now=now, reservation=id_
                ),
            )
        else:
            found = await self._recollected(wish, wished, script)
            earlier = await self._earlier(wish)
            if earlier is not None:
                found, is_replayed = await self._said_then(found, earlier, wish), True
        parts = self._parts(found)
        hold = self._hold(wish, found, parts, id_, now)
        if reservation is None:
            reservation = await self._admit(hold, wish.tier, is_replayed=is_replayed)
        return _LetIn(found, hold, parts, reservation, is_replayed)

    def _has_place_whatever_is_found(self, script: Script, wish: Wish) -> bool:
        """Whether the place that it takes is known before the look: that it takes one, and of how
        many characters. What was said before costs none, where somebody counts them."""
        if self.before is None or not self._is_asked_for(script, None):
            return False  # there is no look
        if wish.idempotency_key is not None:
            return False
        is_counted = speech_allowance(wish.tier).characters_per_month is not None
        return not (is_counted and wish.may_be_cached and self.before.may_have(script))

    async def _admit(self, hold: Hold, tier: Tier, *, is_replayed: bool) -> Reservation:
        admission, user_id = self.admission, hold.user_id
        if is_replayed:
            return await admission.admit_again(
                user_id, tier, now=hold.created_at, reservation=hold.id
            )
        characters = 0 if hold.cached else hold.characters
        return await admission.admit(
            user_id, tier, characters, now=hold.created_at, reservation=hold.id
        )

    async def _recollected(self, wish: Wish, wished: Script, script: Script) -> _Found:
        """One look is enough for who has no settings of their own, as most.

        What the user has said of the voice once for all is no part of what makes requests the same.
        """
        before, user_id = self.before, wish.by.user_id
        if before is None or not self._is_asked_for(script, None):
            return _Found(wished, script)
        own, recalled = await before.recollect(user_id, script, may_be_recalled=wish.may_be_cached)
        if own == SettingsWish():
            return _Found(wished, script, recalled)
        wished = self._script(wish, own)
        script = self._in_known_format(wished, wish)
        if wish.may_be_cached:
            recalled = await before.recall(user_id, script)
        return _Found(wished, script, recalled)

    def _parts(self, found: _Found) -> Sequence[Script]:
        script = found.script
        return script.in_parts() if self._is_asked_for(script, found.recalled) else [script]

    def _script(self, wish: Wish, own: SettingsWish | None = None) -> Script:
        order = wish.said_as or wish.order
        if provider_of(order.voice_id) == OFFLINE_ENGINE:
            return offline_script_for(order, wish.tier, self.offline)
        if own is not None:
            order = filled(order, own, wish.tier)
        return script_for(order, wish.tier, self.catalogue)

    def _is_asked_for(self, script: Script, recalled: bytes | None) -> bool:
        """Whether a vendor is asked."""
        return recalled is None and provider_of(script.voice_id) != OFFLINE_ENGINE

    def _in_known_format(self, script: Script, wish: Wish) -> Script:
        # Who wants one format or nothing may have another plan by now.
        if wish.order.strict_format or not self._is_asked_for(script, None):
            return script
        return replace(script, format=self.formats.known(wish.by.user_id, script.format))

    async def _earlier(self, wish: Wish) -> EarlierSpeech | None:
        """What the idempotency key was first used for. Raises IdempotencyKeyReused."""
        if wish.idempotency_key is None:
            return None
        earlier = await self.speeches.earlier(wish.by.user_id, wish.idempotency_key)
        if earlier is not None and earlier.request_hash not in self._marks(wish):
            raise IdempotencyKeyReused
        return earlier

    async def _said_then(self, found: _Found, earlier: EarlierSpeech, wish: Wish) -> _Found:
        """What a repetition is answered with: to say again what was said costs nothing, which keeps
        what the key promises. Raises what one is that may not be answered."""
        if found.recalled is None:
            # It may have been kept since the first look; or in another format, where the plan at
            # the vendor did not make what was wished for.
            script = replace(found.script, format=AudioFormat(earlier.format))
            found = _Found(found.wished, script, await self._recalled(script, wish))
        if found.recalled is not None:
            return found
        if earlier.outcome is None:
            raise RequestInProgress
        raise AlreadySpoken(earlier.id, earlier.outcome)

    async def _recalled(self, script: Script, wish: Wish) -> bytes | None:
        if self.before is None or not wish.may_be_cached:
            return None
        return await self.before.recall(wish.by.user_id, script)

    def _marks(self, wish: Wish) -> Sequence[bytes]:
        """What the order is known by when it comes again."""
        plain = wish.order.request_hash
        return [plain] if self.before is None else self.before.marks_of(wish.by.user_id, plain)

    def _hold(
        self, wish: Wish, found: _Found, parts: Sequence[Script], id_: SpeechId, now: datetime
    ) -> Hold:
        script, is_recalled = found.script, found.recalled is not None
        # What was said before costs nothing, so that its key stays free.
        keyed = wish.idempotency_key is not None and not is_recalled
        asked = parts[0].characters if len(parts) > 1 else None
        return Hold(
            id=id_,
            user_id=wish.by.user_id,
            request_id=wish.by.request_id,
            tier=wish.tier.name,
            voice_id=script.voice_id,
            model=script.model,
            format=script.format.name,
            characters=script.characters,
            asked_characters=0 if is_recalled else asked,
            created_at=now,
            lease_expires_at=now + self.lease,
            sandbox=self.sandbox,
            cached=is_recalled,
            provider=provider_of(script.voice_id),
            idempotency_key=wish.idempotency_key if keyed else None,
            request_hash=self._marks(wish)[0] if keyed else None,
        )

    async def _check_voice(self, script: Script, wish: Wish) -> None:
        if provider_of(script.voice_id) != OFFLINE_ENGINE:
            await check_voice(self.provider, script.voice_id, wish.tier, by=wish.by)

    async def _write(self, hold: Hold, wish: Wish) -> None:
        try:
            held = await self.speeches.hold(hold)
        except BaseException as failure:
            self.withdraw(hold, failure)
            raise
        if held:
            return
        # Another request with this key came first, while we looked. It may even be over by now,
        # and kept: who asks once more is told.
        await self._earlier(wish)
        raise RequestInProgress

    def _ahead(self, first: Script, wish: Wish) -> Ahead[SpeechAhead] | None:
        """Begin the call to the vendor while the hold is written."""
        by, key = wish.by.for_call()
        begun = self.provider.ahead(first, by=by)
        return None if begun is None else Ahead(begun, key, self.running.withdrawals)

    async def _begin(
        self,
        speech: RunningSpeech,
        parts: Sequence[Script],
        wish: Wish,
        begun: Ahead[SpeechAhead] | None = None,
    ) -> None:
        self.running.add(speech)
        try:
            if begun is not None:
                begun = begun.unless_withdrawn(self.running.withdrawals)
            try:
                await speech.begin(self._recital(speech, parts, wish, begun))
            except VendorPlanRequired as refused:
                await self._begin_in_another_format(speech, parts, wish, refused)
        except BaseException as failure:
            if begun is not None:
                begun.leave()
            if isinstance(failure, ExpectedFailure):
                after_counting(failure, speech.limits)
            await asyncio.shield(self._give_up(speech, failure))
            raise

    async def _begin_in_another_format(
        self,
        speech: RunningSpeech,
        parts: Sequence[Script],
        wish: Wish,
        refused: VendorPlanRequired,
    ) -> None:
        """In the best one that the user's plan at the vendor makes."""
        others = others_for(refused, speech.script.format, wish.tier)
        if others and wish.order.strict_format:
            raise FormatNotInVendorPlan(speech.hold.provider) from refused
        for format_ in others:
            speech.script = replace(speech.script, format=format_)
            again = [replace(part, format=format_) for part in parts]
            recalled = await self._recalled(speech.script, wish)
            if recalled is not None:
                speech.recall(recalled)
            await self._tell(speech, 0 if speech.hold.cached else again[0].characters)
            with suppress(VendorPlanRequired):
                await speech.begin(self._recital(speech, again, wish))
                return
        raise refused

    def _recital(
        self,
        speech: RunningSpeech,
        parts: Sequence[Script],
        wish: Wish,
        begun: Ahead[SpeechAhead] | None = None,
    ) -> Recital:
        provider = self.provider
        by, key = wish.by.for_call() if begun is None else (wish.by.on(begun.key), begun.key)
        speech.key_of_call = key

        def ask(part: Script) -> AbstractAsyncContextManager[Audio | TimedAudio]:
            if begun is not None and part is parts[0]:
                return begun.call.speak()
            if speech.recalled is not None:
                return nullcontext(WholeAudio(speech.recalled, characters=0))
            if self.offline is not None and speech.hold.provider == OFFLINE_ENGINE:
                return self.offline.speak(part)
            return (
                provider.speak_timed(part, by=by) if part.is_timed else provider.speak(part, by=by)
            )

        async def told(characters: int) -> bool:
            return await self._tell(speech, characters)

        return Recital(parts, ask, told)

    async def _tell(self, speech: RunningSpeech, characters: int) -> bool:
        """What the vendor is about to be asked for, in case that somebody else has to settle it."""
        try:
            return await self.speeches.ask(speech.hold.id, characters, speech.script.format.name)
        except Unavailable:
            # No reason to fall silent: the hold is written, and this replica knows the rest.
            return True

    async def _give_up(self, speech: RunningSpeech, failure: BaseException) -> None:
        failed = isinstance(failure, VendorFailed)
        settlement = Settlement(Outcome.PROVIDER_FAILED if failed else Outcome.REFUSED, None)
        settling = self.running.conclude(speech, self.settle(speech.hold, settlement))
        await speech.reservation.refund()
        # A retry with the same key should find it free; for a database that is away nobody waits.
        await asyncio.wait({settling}, timeout=_SETTLE_PATIENCE_SECONDS)
