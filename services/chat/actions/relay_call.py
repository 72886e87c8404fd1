"""Relay a client's own call to its vendor: governed, metered, and passed on as it comes."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import field, replace
from datetime import timedelta

import structlog

from services.chat.actions._read_answer import Drains
from services.chat.actions.compose_prompt import opaque
from services.chat.actions.open_turn import Opened, Opening, OpenTurn
from services.chat.actions.run_turn import count_what_is_owed, give_back
from services.chat.actions.settle_turn import SettleTurn
from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.conversation import Message
from services.chat.domain.errors import AnswerEnded, AnswerNotKept, TurnTooLong
from services.chat.domain.frames import LONGEST_ANSWER
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.ports import Turns
from services.chat.domain.raw_calls import RawAnswer, RawCall, RawRefusal, RawVendors
from services.chat.domain.relayed import (
    AnswerHead,
    ClientCall,
    Listener,
    RepeatedAnswer,
    StoredAnswer,
)
from services.chat.domain.relaying import Heard, governed_choice, room_of
from services.chat.domain.running_turn import RunningTurn, RunningTurns
from services.chat.domain.turn import Outcome, Settlement
from shared.errors import ExpectedFailure, after_counting
from shared.identity import OnBehalfOf
from shared.limits.pace import Gone
from shared.model_catalogue import ModelCatalogue
from shared.revocation import KeyOfCall
from shared.tiers import Tier
from shared.values import dataclass
from shared.vendors.failures import VendorFailed, may_be_charged

log = structlog.get_logger(__name__)

_SETTLE_PATIENCE_SECONDS = 5.0
_LARGEST_KEPT = 1 << 20
# How long an answer that nobody hears any more is read for its usage, and after how long of it the
# client has its place in the limits back, at the price of an estimate.
_DRAIN_SECONDS = 30.0
_SLOW_DRAIN_SECONDS = 1.0
# Only for calls that never reached the vendor. SDKs try again by themselves.
_TRIES = 2
_NOTHING_ANSWERED = frozenset({Outcome.CONTENT_BLOCKED, Outcome.PROVIDER_FAILED})


@dataclass(frozen=True, slots=True)
class Relaying:
    """A client's call, and in whose name it is made."""

    call: ClientCall
    by: OnBehalfOf
    tier: Tier
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class RelayCall:
    """A turn without a session, in the vendor's own wire."""

    turns: Turns
    open: OpenTurn
    settle: SettleTurn
    running: RunningTurns
    vendors: RawVendors
    catalogue: ModelCatalogue
    drains: Drains = field(default_factory=Drains)
    longest: timedelta = timedelta(minutes=10)

    async def __call__(
        self, relaying: Relaying, listener: Listener
    ) -> RepeatedAnswer | RawRefusal | None:
        """Returns once the answer has been heard and settled: nothing is left to say then, but for
        an answer of before and for the vendor's refusal.

        Raises what `OpenTurn` and the choice of a model raise, AnswerNotKept, and what the vendor
        has to say before its answer began; a later failure is the listener's to tell.
        """
        found = await self.open.by_current_tier(
            relaying.by.user_id,
            relaying.tier,
            lambda tier: self._admitted(relaying, tier, listener.gone),
        )
        if isinstance(found, RepeatedAnswer):
            return found
        opened, raw = found
        turn = RunningTurn(
            opened.hold,
            opened.reservation.limits,
            relaying.by.sign_in_id,
            relaying.by.organisation_id,
            key=relaying.by.key,
            reservation_id=opened.reservation_id,
        )
        relay = _Relay(turn, opened, raw, listener, self)
        self.running.start(turn, relay.run(relaying.by))
        await _ended_when_gone(turn, listener)
        if relay.failure is not None and not relay.begun:
            # The vendor's refusal is told from the same failure.
            failure = after_counting(relay.failure, turn.limits)
            if relay.refusal is None:
                raise failure
        return relay.refusal

    async def _admitted(
        self, relaying: Relaying, tier: Tier, gone: Gone
    ) -> RepeatedAnswer | tuple[Opened, RawCall]:
        call, user_id = relaying.call, relaying.by.user_id
        # Asked first: what was answered is told again, whatever the tier grants by now.
        repeated = await self._repeated(relaying, tier)
        if repeated is not None:
            return repeated
        choice = governed_choice(call, tier, self.catalogue)
        raw = call.governed(choice, end_user=opaque(user_id))
        async with self.open.its_turn(user_id, tier, choice.provider, gone):
            return await self._opened(relaying, tier, choice), raw

    async def _repeated(self, relaying: Relaying, tier: Tier) -> RepeatedAnswer | None:
        call, user_id = relaying.call, relaying.by.user_id
        earlier = await self.open.earlier(user_id, relaying.idempotency_key, call.request_hash)
        if earlier is None:
            return None
        if not earlier.stored_answer:
            raise AnswerNotKept
        stored = StoredAnswer.from_bytes(earlier.stored_answer)
        limits = await self.open.limits_at(user_id, tier, earlier.hold.provider)
        head = AnswerHead(stored.media_type, stored.vendor_headers, limits, tier.name)
        return RepeatedAnswer(head, stored.body)

    async def _opened(self, relaying: Relaying, tier: Tier, choice: ModelChoice) -> Opened:
        call = relaying.call
        return await self.open(
            Opening(
                by=relaying.by,
                tier=tier,
                choice=choice,
                input_estimate=call.input_estimate,
                input_most=room_of(choice, tier, self.catalogue) if call.is_open else None,
                cap_microusd=await self.turns.cap_of(relaying.by.user_id),
                surface=call.surface,
                service_tier=call.service_tier,
                idempotency_key=relaying.idempotency_key,
                request_hash=call.request_hash,
            )
        )


async def _ended_when_gone(turn: RunningTurn, listener: Listener) -> None:
    """Wait for the turn's end; a client that goes away brings it about."""
    gone = asyncio.ensure_future(listener.gone())
    gone.add_done_callback(lambda done: None if done.cancelled() else turn.left())
    try:
        while not turn.is_over:
            await turn.more(len(turn.events))
    except asyncio.CancelledError:
        turn.left()
        raise
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


class _Relay:
    """One call while it is relayed."""

    def __init__(
        self,
        turn: RunningTurn,
        opened: Opened,
        raw: RawCall,
        listener: Listener,
        relaying: RelayCall,
    ) -> None:
        self.refusal: RawRefusal | None = None
        self.failure: ExpectedFailure | None = None
        self.begun = False
        self._turn = turn
        self._opened = opened
        self._raw = raw
        self._listener = listener
        self._vendors = relaying.vendors
        self._settle = relaying.settle
        self._drains = relaying.drains
        self._longest = relaying.longest
        self._reader: asyncio.Task[None] | None = None
        self._on_leaving = OnLeaving.CANCEL
        self._draining: list[asyncio.TimerHandle] = []
        self._given_back: asyncio.Task[None] | None = None
        self._told: Settlement | None = None
        self._heard = Heard(opened.opening.service_tier)
        self._head: AnswerHead | None = None
        self._whole: list[bytes] = []
        self._keeps = opened.hold.idempotency_key is not None
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._key: KeyOfCall | None = None

    async def run(self, by: OnBehalfOf) -> None:
        """From the call to its settlement, and the last word to the client."""
        started = time.perf_counter()
        self.failure = await self._read_to_the_end(by)
        elapsed_ms = round((time.perf_counter() - started) * 1000)
        hold = self._turn.hold
        settlement = self._settle.priced(hold, self._settlement(elapsed_ms))
        if self.failure is None and settlement.outcome in _NOTHING_ANSWERED:
            outcome, why = settlement.outcome.value, self._heard.why
            log.info("nothing_answered", provider=hold.provider, outcome=outcome, why=why)
        settling = asyncio.ensure_future(self._settle(hold, settlement))
        await self._count(settlement)
        # The client need not wait for our database, and the answer is theirs: it is paid for.
        await asyncio.wait({settling}, timeout=_SETTLE_PATIENCE_SECONDS)
        try:
            await self._conclude()
        except Exception:
            log.exception("client_not_told", turn_id=str(hold.id))
        # However its client took the end: until it is settled, its lease is renewed.
        await self._settled(settling)

    async def _settled(self, settling: asyncio.Future[Message]) -> None:
        try:
            await settling
        except Exception:
            # The hold stays open: once nobody renews its lease, a worker settles it.
            log.exception("turn_not_settled", turn_id=str(self._turn.hold.id))

    async def _conclude(self) -> None:
        if self._turn.ended_as is Outcome.CLIENT_GONE:
            return
        if self.failure is None and not self._heard.is_whole:
            self.failure = AnswerEnded()
        if self.failure is None and not self._raw.streamed and self._head is not None:
            await self._begin(self._head)
            await self._listener.hear(b"".join(self._whole))
        if self.begun:
            await self._listener.end(self.failure)

    async def _read_to_the_end(self, by: OnBehalfOf) -> ExpectedFailure | None:
        self._reader = asyncio.create_task(self._read(by))
        self._turn.read_by(self._leave)
        try:
            await self._reader
        except asyncio.CancelledError:
            if self._turn.ended_as is None:
                raise
        except ExpectedFailure as failure:
            return None if self._turn.ended_as else failure
        except Exception:
            # A bug of ours: the turn is settled, and may be charged if the vendor was asked.
            provider, billed = self._raw.provider, self._heard.is_asked
            log.exception("call_not_relayed", provider=provider, vendor_asked=billed)
            return VendorFailed(provider, billed=billed)
        finally:
            self._turn.read_by(None)
            for timer in self._draining:
                timer.cancel()
            if self._draining:
                self._drains.give_back()
        return None

    def _leave(self, at_once: bool) -> None:
        """Stop reading; or read on in silence, where the vendor would go on and charge."""
        assert self._reader is not None
        drains = self._on_leaving is OnLeaving.DRAIN and not at_once
        if drains and not self._draining and self._drains.take():
            later = asyncio.get_running_loop().call_later
            self._heard.is_unheard = True
            self._draining = [
                later(_SLOW_DRAIN_SECONDS, self._give_back_early),
                later(_DRAIN_SECONDS, self._reader.cancel),
            ]
        else:
            self._reader.cancel()

    def _give_back_early(self) -> None:
        self._told = self._settle.priced(self._turn.hold, self._settlement(0))
        self._given_back = asyncio.ensure_future(self._give_back(self._told))

    async def _count(self, settlement: Settlement) -> None:
        if self._given_back is None:
            await self._give_back(settlement)
            return
        await self._given_back
        try:
            await count_what_is_owed(self._opened.reservation, self._told, settlement)
        except Exception:
            log.exception("spending_not_counted", turn_id=str(self._turn.hold.id))

    async def _give_back(self, settlement: Settlement) -> None:
        try:
            await give_back(self._opened.reservation, settlement)
        except Exception:
            # Its lease runs out by itself; the settlement must not miss because of it.
            log.exception("place_not_given_back", turn_id=str(self._turn.hold.id))

    async def _read(self, by: OnBehalfOf) -> None:
        try:
            async with asyncio.timeout(self._longest.total_seconds()):
                await self._read_in_time(by)
        except TimeoutError as error:
            raise TurnTooLong(self._raw.provider, billed=self._heard.is_asked) from error

    async def _read_in_time(self, by: OnBehalfOf) -> None:
        for left in reversed(range(_TRIES)):
            self._heard.is_asked = True
            of_try, self._key = by.for_call()
            try:
                async with self._vendors.call(self._raw, by=of_try) as answer:
                    await self._take(answer)
                return
            except ExpectedFailure as failure:
                # Also where nobody hears of the failure, who has left meanwhile.
                self._heard.is_asked = may_be_charged(failure) or self._heard.has_worked
                never_reached = isinstance(failure, VendorFailed) and not failure.billed
                if not never_reached or self.begun or not left:
                    raise

    async def _take(self, answer: RawAnswer) -> None:
        if answer.status != 200:
            self.refusal = await answer.refusal()
            raise self.refusal.failure
        self._head = AnswerHead(
            media_type=answer.headers.get("content-type", "application/json"),
            vendor_headers=answer.headers,
            limits=self._turn.limits,
            tier=self._turn.hold.tier,
        )
        self._on_leaving = answer.on_leaving
        self._turn.answers()
        if self._raw.streamed:
            await self._begin(self._head)
        async for piece in answer.pieces():
            self._heard.take(piece.frames)
            if self._heard.letters > LONGEST_ANSWER:
                raise VendorFailed(self._raw.provider)
            self._turn.output_letters = self._heard.letters
            self._turn.provider_request_id = self._heard.provider_request_id
            if self._turn.ended_as is not None and not self._draining:
                # The cancellation was lost on its way, as Python 3.11 may in `asyncio.wait_for`.
                raise asyncio.CancelledError
            if piece.data and not self._draining:
                await self._pass_on(piece.data)
        if not self._heard.is_whole:
            raise VendorFailed(self._raw.provider)

    async def _pass_on(self, data: bytes) -> None:
        self._keep(data)
        if self._raw.streamed:
            await self._listener.hear(data)
        else:
            self._whole.append(data)

    async def _begin(self, head: AnswerHead) -> None:
        self.begun = True
        await self._listener.begin(head)

    def _keep(self, data: bytes) -> None:
        if not self._keeps:
            return
        self._kept_bytes += len(data)
        if self._kept_bytes > _LARGEST_KEPT:
            self._keeps = False
            self._kept.clear()
        else:
            self._kept.append(data)

    def _settlement(self, elapsed_ms: int) -> Settlement:
        hold = self._turn.hold
        settlement = self._heard.settlement(
            hold,
            self.failure,
            max_output_tokens=self._opened.opening.choice.max_output_tokens,
            ended_as=self._turn.ended_as,
            elapsed_ms=elapsed_ms,
        )
        if self._key is not None:
            whose = self._key.organisation(hold.user_id)
            settlement = replace(settlement, key_organisation_id=whose)
        whole = settlement.outcome is Outcome.DONE
        if hold.idempotency_key is None or self._head is None or not whole:
            return settlement
        if not self._keeps:
            # Made and paid for: a repetition is told so, and makes no other call.
            return replace(settlement, stored_answer=b"")
        head, body = self._head, b"".join(self._kept)
        stored = StoredAnswer(head.media_type, body, head.vendor_headers)
        return replace(settlement, stored_answer=stored.to_bytes())
