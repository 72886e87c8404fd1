"""The hot path: admit, hold, call the vendor, and wait for the first audio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.voice.actions._check_voice import check_voice
from services.voice.actions._spoken_before import SpokenBefore
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.withdraw_hold import WithdrawHold
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
)
from services.voice.domain.speech import Hold, Outcome, Settlement
from services.voice.domain.whole_audio import WholeAudio
from shared.ahead import Ahead
from shared.clock import Clock
from shared.errors import ExpectedFailure, Unavailable, after_counting
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier, by_current_tier
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
        wished, script, recalled = await self._recollected(wish)
        is_replayed = await self._is_replayed(wish, is_recalled=recalled is not None)
        parts = script.in_parts() if self._is_asked_for(script, recalled) else [script]
        hold = self._hold(wish, script, parts)
        if recalled is not None:
            # It costs nothing, so that its key stays free.
            hold = replace(
                hold, cached=True, asked_characters=0, idempotency_key=None, request_hash=None
            )
        reservation = await self._admit(hold, script, wish.tier, is_replayed=is_replayed)
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
            is_replayed=is_replayed,
        )
        await self._begin(speech, parts, wish, begun)
        if self._is_asked_for(script, recalled):
            # Only now is it known whether the format that was wished for is the one that comes.
            self.formats.remember(wish.by.user_id, wished.format, speech.script.format)
        if speech.script.format != wished.format:
            speech.wished_format = wished.format
        return speech

    async def _admit(
        self, hold: Hold, script: Script, tier: Tier, *, is_replayed: bool
    ) -> Reservation:
        admission, user_id = self.admission, hold.user_id
        if is_replayed:
            return await admission.admit_again(
                user_id, tier, now=hold.created_at, reservation=hold.id
            )
        characters = 0 if hold.cached else script.characters
        return await admission.admit(
            user_id, tier, characters, now=hold.created_at, reservation=hold.id
        )

    async def _recollected(self, wish: Wish) -> tuple[Script, Script, bytes | None]:
        """What is wished for, the same in a format that the user's plan makes, and its audio where
        it was said before. One look is enough for who has no settings of their own, as most.

        What the user has said of the voice once for all is no part of what makes requests the same.
        """
        before, user_id = self.before, wish.by.user_id
        wished = self._script(wish)
        script = self._in_known_format(wished, wish)
        if before is None or not self._is_asked_for(script, None):
            return wished, script, None
        own, recalled = await before.recollect(user_id, script, may_be_recalled=wish.may_be_cached)
        if own == SettingsWish():
            return wished, script, recalled
        wished = self._script(wish, own)
        script = self._in_known_format(wished, wish)
        if wish.may_be_cached:
            recalled = await before.recall(user_id, script)
        return wished, script, recalled

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

    async def _is_replayed(self, wish: Wish, *, is_recalled: bool = False) -> bool:
        """Whether it is a repetition that may be answered. Raises what one that may not be is."""
        if wish.idempotency_key is None:
            return False
        earlier = await self.speeches.earlier(wish.by.user_id, wish.idempotency_key)
        if earlier is None:
            return False
        if earlier.request_hash not in self._marks(wish):
            raise IdempotencyKeyReused
        # To say again what was said costs nothing, which keeps what the key promises.
        if not is_recalled:
            raise _repetition(earlier)
        return True

    def _marks(self, wish: Wish) -> Sequence[bytes]:
        """What the order is known by when it comes again."""
        plain = wish.order.request_hash
        return [plain] if self.before is None else self.before.marks_of(wish.by.user_id, plain)

    def _hold(self, wish: Wish, script: Script, parts: Sequence[Script]) -> Hold:
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
            asked_characters=parts[0].characters if len(parts) > 1 else None,
            created_at=now,
            lease_expires_at=now + self.lease,
            sandbox=self.sandbox,
            provider=provider_of(script.voice_id),
            idempotency_key=wish.idempotency_key,
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
        # Another request with this key came first, while we looked.
        await self._is_replayed(wish)
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
            await self._tell(speech, again[0].characters)
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


def _repetition(earlier: EarlierSpeech) -> Exception:
    if earlier.outcome is None:
        return RequestInProgress()
    return AlreadySpoken(earlier.id, earlier.outcome)
