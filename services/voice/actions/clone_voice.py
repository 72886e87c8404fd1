"""Have a voice made from samples of somebody who agreed to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from services.voice.domain.clone import (
    Clone,
    ClonedVoice,
    CloneOrder,
    MadeVoice,
    Sample,
    check_lengths,
    refuse_cloning_outside,
)
from services.voice.domain.ports import Admission, Examiner, NewUnitOfWork, VoiceMaker
from services.voice.domain.voice import VoiceId
from shared.clock import Clock
from shared.errors import ExpectedFailure
from shared.events.voice import VoiceCloned, VoiceConsentGiven
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.ids import uuid7
from shared.tiers import Tier, by_current_tier
from shared.values import dataclass

log = structlog.get_logger(__name__)

_NOTED_AFTER_SECONDS = (0.0, 0.5, 2.0)


@dataclass(frozen=True, slots=True)
class CloneWish:
    """A voice that a user wants to have made, and by which right."""

    order: CloneOrder
    tier: Tier
    by: OnBehalfOf
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class CloneVoice:
    """Check the samples, write the consent down, and have the vendor make a voice.

    The vendor hears nothing of samples that we can tell are none. The row and the consent are
    committed before it is asked, so that nobody's recordings leave without a trace. Samples are
    kept nowhere.
    """

    maker: VoiceMaker
    examiner: Examiner
    admission: Admission
    unit_of_work: NewUnitOfWork
    clock: Clock

    async def tier_for(self, tier: Tier, *, by: OnBehalfOf) -> Tier:
        """The tier that includes cloning, before anybody reads samples. Raises CloningNotInTier."""

        async def including(current: Tier) -> Tier:
            refuse_cloning_outside(current)
            return current

        return await by_current_tier(
            tier, lambda: self.admission.tier_told_of(by.user_id), including
        )

    async def __call__(self, wish: CloneWish) -> ClonedVoice:
        """Raises CloningNotInTier, Invalid, LimitReached, Unavailable, RequestInProgress,
        IdempotencyKeyReused, VoiceSlotsFull, SamplesRejected, and what the vendor or the egress
        says."""
        wish = replace(wish, tier=await self.tier_for(wish.tier, by=wish.by))
        wish.order.check()
        samples = await self._examined(wish.order)

        async def cloned(tier: Tier) -> ClonedVoice:
            refuse_cloning_outside(tier)
            return await self._clone(replace(wish, tier=tier), samples)

        return await by_current_tier(
            wish.tier, lambda: self.admission.tier_told_of(wish.by.user_id), cloned
        )

    async def _examined(self, order: CloneOrder) -> Sequence[Sample]:
        samples = [
            Sample(upload, await self.examiner.examine(position, upload))
            for position, upload in enumerate(order.uploads, start=1)
        ]
        check_lengths(samples)
        return samples

    async def _clone(self, wish: CloneWish, samples: Sequence[Sample]) -> ClonedVoice:
        clone = self._begun(wish, samples)
        earlier = await self._earlier(clone)
        if earlier is not None:
            return earlier
        reservation = await self.admission.admit(
            wish.by.user_id, wish.tier, 0, now=clone.created_at, reservation=uuid7()
        )
        try:
            if not await self._written(clone):
                # Another request with this key came first, while we looked.
                earlier = await self._earlier(clone)
                raise RequestInProgress if earlier is None else _Answered(earlier)
            made = await self._made(clone, wish, samples)
        except _Answered as answered:
            await asyncio.shield(reservation.refund())
            return answered.voice
        except BaseException:
            await asyncio.shield(reservation.refund())
            raise
        return await asyncio.shield(self._noted(clone, made, wish.by))

    def _begun(self, wish: CloneWish, samples: Sequence[Sample]) -> Clone:
        keyed = wish.idempotency_key is not None
        return Clone(
            user_id=wish.by.user_id,
            tier=wish.tier.name,
            name=wish.order.name,
            sample_sha256s=tuple(sample.recording.sha256 for sample in samples),
            created_at=self.clock.now(),
            idempotency_key=wish.idempotency_key,
            request_hash=wish.order.request_hash(samples) if keyed else None,
        )

    async def _earlier(self, clone: Clone) -> ClonedVoice | None:
        if clone.idempotency_key is None:
            return None
        async with self.unit_of_work() as work:
            earlier = await work.clones.earlier(clone.maker, clone.idempotency_key)
        if earlier is None:
            return None
        if earlier.request_hash != clone.request_hash:
            raise IdempotencyKeyReused
        if earlier.voice_id is None:
            raise RequestInProgress
        return ClonedVoice(earlier, earlier.voice_id, again=True)

    async def _written(self, clone: Clone) -> bool:
        """The consent goes into the audit trail with the row, or neither does."""
        async with self.unit_of_work() as work:
            if not await work.clones.begin(clone):
                return False
            told = VoiceConsentGiven(
                user_id=clone.maker,
                clone_id=clone.id,
                provider=clone.provider,
                consent_version=clone.consent_version,
                sample_sha256s=tuple(clone.sample_sha256s),
            )
            work.publish(told, subject=clone.maker, tier=clone.tier)
        return True

    async def _made(self, clone: Clone, wish: CloneWish, samples: Sequence[Sample]) -> MadeVoice:
        try:
            return await self.maker.make(wish.order, samples, by=wish.by)
        except BaseException:
            await asyncio.shield(self._withdrawn(clone))
            raise

    async def _withdrawn(self, clone: Clone) -> None:
        try:
            async with self.unit_of_work() as work:
                await work.clones.forget(clone.id)
        except ExpectedFailure as failure:
            # The job that looks for lost ones finds it.
            log.warning("clone_not_withdrawn", clone_id=str(clone.id), reason=failure.code)

    async def _noted(self, clone: Clone, made: MadeVoice, by: OnBehalfOf) -> ClonedVoice:
        """A voice of which we can't keep account is not left behind at the vendor."""
        for last, seconds in enumerate(_NOTED_AFTER_SECONDS, start=1):
            await asyncio.sleep(seconds)
            try:
                return await self._note(clone, made, by)
            except ExpectedFailure as failure:
                log.warning("clone_not_noted", clone_id=str(clone.id), reason=failure.code)
                if last == len(_NOTED_AFTER_SECONDS):
                    await self._undo(made.id, by)
                    raise
        raise AssertionError("unreachable")

    async def _note(self, clone: Clone, made: MadeVoice, by: OnBehalfOf) -> ClonedVoice:
        ready = replace(
            clone,
            requires_verification=made.requires_verification,
            voice_id=made.id,
            organisation_id=_organisation_of(clone, by),
        )
        async with self.unit_of_work() as work:
            await work.clones.finish(clone.id, made, ready.organisation_id)
            told = VoiceCloned(
                user_id=clone.maker,
                clone_id=clone.id,
                provider=clone.provider,
                voice_id=made.id,
                consent_version=clone.consent_version,
                sample_sha256s=tuple(clone.sample_sha256s),
            )
            work.publish(told, subject=clone.maker, tier=clone.tier)
        return ClonedVoice(ready, made.id)

    async def _undo(self, voice_id: VoiceId, by: OnBehalfOf) -> None:
        try:
            await self.maker.remove(voice_id, by=by)
        except ExpectedFailure as failure:
            log.warning("clone_left_behind", voice_id=voice_id, reason=failure.code)


def _organisation_of(clone: Clone, by: OnBehalfOf) -> UUID | None:
    """Whose key made the voice, where it was not its user's own."""
    others = by.key.owners(clone.provider) - {clone.user_id}
    return next(iter(others), None)


class _Answered(Exception):
    """An earlier request with the same key has made the voice."""

    def __init__(self, voice: ClonedVoice) -> None:
        super().__init__()
        self.voice = voice
