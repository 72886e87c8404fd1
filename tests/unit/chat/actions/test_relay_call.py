"""A relayed call: one settlement whatever happens, and a client that sets the pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from services.chat.actions import relay_call
from services.chat.actions._read_answer import Drains
from services.chat.actions.relay_call import RelayCall, Relaying
from services.chat.api.dropin_openai_calls import read_chat
from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.errors import (
    AnswerEnded,
    AnswerNotKept,
    TurnTooLong,
    VendorRejectedRequest,
)
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.raw_calls import RawAnswer, RawCall, RawPiece, RawRefusal
from services.chat.domain.relayed import AnswerHead, RepeatedAnswer
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Outcome
from services.chat.domain.usage import Usage
from services.chat.wiring import quote
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.revocation import KeyInUse, Revocation, UsedKey
from shared.tiers import TIERS
from shared.vendors.failures import VendorFailed, VendorOverloaded
from tests.support.chat import NOON, Desk, MemoryTurns, ScriptedProvider, ada

BODY = b'{"model":"gpt-6-luna","stream":%b,"messages":[{"role":"user","content":"hi"}]}'
BY = OnBehalfOf(ada, "request-1", "token", UUID(int=9))
USAGE = Usage(input_tokens=10, output_tokens=2)

Step = RawPiece | BaseException | asyncio.Event


def piece(data: bytes, *frames: Frame) -> RawPiece:
    return RawPiece(data, frames)


ANSWER: tuple[Step, ...] = (
    piece(b"1", Began("c-1", "gpt-6-luna"), Text("one ")),
    piece(b"2", Text("two")),
    piece(b"3", Ended("stop", USAGE)),
)


@dataclass
class ScriptedVendor:
    """Answers by a script, or refuses."""

    script: Sequence[Step] = ANSWER
    fails_first: int = 0
    on_leaving: OnLeaving = OnLeaving.CANCEL
    calls: list[RawCall] = field(default_factory=list)
    taken: int = 0
    closed: int = 0

    status = 200
    headers = {  # noqa: RUF012 - never changed
        "content-type": "text/event-stream",
        "request-id": "req-1",
        "x-key": "of the vendor's",
    }

    @asynccontextmanager
    async def call(self, call: RawCall, *, by: OnBehalfOf) -> AsyncIterator[RawAnswer]:
        self.calls.append(call)
        if len(self.calls) <= self.fails_first:
            raise VendorFailed("openai", billed=False)
        try:
            yield self  # type: ignore[misc]
        finally:
            self.closed += 1

    async def pieces(self) -> AsyncIterator[RawPiece]:
        for step in self.script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                self.taken += 1
                yield step


@dataclass
class _Refusing:
    """A vendor that says no."""

    said: RawRefusal
    headers: Mapping[str, str] = field(default_factory=dict)
    on_leaving = OnLeaving.CANCEL

    @property
    def status(self) -> int:
        return self.said.status

    @asynccontextmanager
    async def call(self, call: RawCall, *, by: OnBehalfOf) -> AsyncIterator[Any]:
        yield self

    async def refusal(self) -> RawRefusal:
        return self.said


@dataclass
class Client:
    """Hears what is said; may be slow, or leave."""

    heard: list[bytes] = field(default_factory=list)
    ended: list[ExpectedFailure | None] = field(default_factory=list)
    head: AnswerHead | None = None
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    is_slow: bool = False

    async def begin(self, head: AnswerHead) -> None:
        self.head = head

    async def hear(self, data: bytes) -> None:
        if self.is_slow:
            await self.reads.wait()
        self.heard.append(data)

    async def end(self, failure: ExpectedFailure | None) -> None:
        self.ended.append(failure)

    async def gone(self) -> None:
        await self.leaves.wait()


@dataclass
class Relay:
    """Everything that a relayed call needs."""

    vendor: Any
    desk: Desk = field(default_factory=lambda: Desk(MemoryTurns(), ScriptedProvider()))
    client: Client = field(default_factory=Client)
    drains: Drains = field(default_factory=Drains)
    by: OnBehalfOf = BY
    longest: timedelta = timedelta(minutes=10)
    body: bytes = BODY

    async def __call__(
        self, *, streamed: bool = True, key: str | None = None
    ) -> RepeatedAnswer | RawRefusal | None:
        desk = self.desk
        action = RelayCall(
            desk.turns,
            desk.open,
            desk.settle,
            desk.running,
            self.vendor,
            ModelCatalogue(),
            self.drains,
            self.longest,
        )
        call = read_chat(self.body % (b"true" if streamed else b"false"))
        return await action(Relaying(call, self.by, TIERS["free"], key), self.client)

    async def begun(self, pieces: int) -> asyncio.Task[Any]:
        """The call under way, with so many pieces taken from the vendor."""
        task = asyncio.create_task(self())
        async with asyncio.timeout(1):
            while self.vendor.taken < pieces:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task


async def test_a_stream_is_heard_piece_by_piece_and_settled_once() -> None:
    relay = Relay(ScriptedVendor())
    assert await relay() is None
    assert relay.client.heard == [b"1", b"2", b"3"]
    assert relay.client.ended == [None]
    assert relay.desk.outcome is Outcome.DONE
    assert relay.desk.only_settlement.usage == USAGE
    assert relay.desk.admission.reservations[0].settled == [(12, 7)]
    assert len(relay.desk.turns.facts) == 1


async def test_a_whole_answer_is_heard_at_once() -> None:
    relay = Relay(ScriptedVendor())
    await relay(streamed=False)
    assert relay.client.heard == [b"123"]


async def test_a_slow_client_makes_the_vendor_wait() -> None:
    relay = Relay(ScriptedVendor(), client=Client(is_slow=True))
    task = await relay.begun(1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert relay.vendor.taken == 1
    relay.client.reads.set()
    await task
    assert relay.vendor.taken == 3


async def test_what_broke_off_is_told_and_charged() -> None:
    relay = Relay(ScriptedVendor([ANSWER[0], VendorFailed("openai")]))
    await relay()
    assert relay.client.heard == [b"1"]
    assert [type(failure) for failure in relay.client.ended] == [VendorFailed]
    settlement = relay.desk.only_settlement
    assert (settlement.outcome, settlement.usage.source) == (Outcome.PROVIDER_FAILED, "estimated")


@pytest.mark.parametrize(
    "frame",
    [Text("one "), Thinking("Hm"), ToolCallPiece(0, "call-1", "look", "")],
    ids=["text", "thinking", "a call without arguments"],
)
async def test_what_was_begun_is_charged_though_its_vendor_says_it_was_busy(frame: Frame) -> None:
    begun = piece(b"1", Began("c-1", None), frame)
    relay = Relay(ScriptedVendor([begun, VendorOverloaded("Busy.", provider="openai")]))
    await relay()
    settlement = relay.desk.only_settlement
    assert settlement.outcome is Outcome.PROVIDER_FAILED
    assert (settlement.usage.source, settlement.usage.input_tokens > 0) == ("estimated", True)


async def test_a_bug_of_ours_is_settled_like_a_vendors_failure() -> None:
    relay = Relay(ScriptedVendor([ANSWER[0], RuntimeError("a bug")]))
    await relay()
    assert relay.desk.outcome is Outcome.PROVIDER_FAILED
    assert [type(failure) for failure in relay.client.ended] == [VendorFailed]


async def test_before_its_answer_a_failure_is_raised_and_nothing_is_charged() -> None:
    relay = Relay(ScriptedVendor(fails_first=9))
    with pytest.raises(VendorFailed):
        await relay()
    assert len(relay.vendor.calls) == 2  # once more, since the vendor never heard of it
    assert relay.desk.outcome is Outcome.REFUSED
    assert relay.desk.turns.facts == []
    assert relay.desk.admission.reservations[0].refunds == 1


async def test_what_never_reached_the_vendor_is_tried_once_more() -> None:
    relay = Relay(ScriptedVendor(fails_first=1))
    await relay()
    assert relay.desk.outcome is Outcome.DONE
    assert len(relay.desk.turns.facts) == 1


async def test_a_refusal_is_returned_and_costs_nothing() -> None:
    failure = VendorRejectedRequest("No.", provider="openai")
    relay = Relay(_Refusing(RawRefusal(400, {}, {}, failure)))
    found = await relay()
    assert isinstance(found, RawRefusal)
    assert found.status == 400
    assert relay.client.head is None
    assert relay.desk.outcome is Outcome.REFUSED
    assert relay.desk.turns.facts == []


async def test_a_refusal_costs_nothing_though_its_client_has_left_meanwhile() -> None:
    relay = Relay(vendor=None)

    class Refusing(_Refusing):
        async def refusal(self) -> RawRefusal:
            relay.desk.running.end(Outcome.CLIENT_GONE, where=lambda _hold: True)
            return self.said

    rejected = VendorRejectedRequest("No.", provider="openai")
    relay.vendor = Refusing(RawRefusal(400, {}, {}, rejected))
    await relay()
    assert relay.desk.outcome is Outcome.CLIENT_GONE
    assert relay.desk.only_settlement.usage == Usage(source="counted")


async def test_a_client_that_leaves_ends_the_call() -> None:
    relay = Relay(ScriptedVendor([ANSWER[0], asyncio.Event(), *ANSWER[1:]]))
    task = await relay.begun(1)
    relay.client.leaves.set()
    await task
    assert relay.vendor.closed == 1
    assert relay.client.ended == []
    assert relay.desk.outcome is Outcome.CLIENT_GONE
    assert len(relay.desk.turns.facts) == 1


async def test_where_the_vendor_charges_on_it_is_read_on_in_silence() -> None:
    more = asyncio.Event()
    vendor = ScriptedVendor([ANSWER[0], more, *ANSWER[1:]], on_leaving=OnLeaving.DRAIN)
    relay = Relay(vendor)
    task = await relay.begun(1)
    relay.client.leaves.set()
    await asyncio.sleep(0.01)
    more.set()
    await task
    settlement = relay.desk.only_settlement
    assert (settlement.outcome, settlement.usage) == (Outcome.CLIENT_GONE, USAGE)
    assert settlement.text == "one "
    assert relay.client.heard == [b"1"]


async def test_without_room_for_a_drain_it_is_cut() -> None:
    vendor = ScriptedVendor([ANSWER[0], asyncio.Event()], on_leaving=OnLeaving.DRAIN)
    relay = Relay(vendor, drains=Drains(0))
    task = await relay.begun(1)
    relay.client.leaves.set()
    await task
    assert relay.desk.only_settlement.usage.source == "estimated"


async def test_a_call_that_is_ended_from_here_says_so() -> None:
    relay = Relay(ScriptedVendor([ANSWER[0], asyncio.Event()]))
    task = await relay.begun(1)
    relay.desk.running.end(Outcome.STOPPED, where=lambda _hold: True)
    await task
    assert [type(failure) for failure in relay.client.ended] == [AnswerEnded]
    assert relay.desk.outcome is Outcome.STOPPED


async def test_it_ends_with_the_key_of_an_organisation_that_may_serve_it() -> None:
    firm = uuid4()
    # By their token they have no seat; keyvault may have heard of one since.
    relay = Relay(
        ScriptedVendor([ANSWER[0], asyncio.Event()]), by=replace(BY, organisation_id=firm)
    )
    task = await relay.begun(1)
    withdrawn = Revocation(UserId(firm), "openai", NOON)
    assert relay.desk.running.end_on_key(withdrawn, Outcome.STOPPED) == 1
    await task
    assert relay.desk.outcome is Outcome.STOPPED


async def test_a_server_that_cancels_the_request_ends_the_call() -> None:
    relay = Relay(ScriptedVendor([ANSWER[0], asyncio.Event()]))
    task = await relay.begun(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await relay.desk.running.drained(1)
    assert relay.desk.outcome is Outcome.CLIENT_GONE


async def test_a_repeated_key_gets_what_was_heard() -> None:
    relay = Relay(ScriptedVendor())
    await relay(key="k")
    again = await relay(key="k")
    assert isinstance(again, RepeatedAnswer)
    assert (again.head.media_type, again.body) == ("text/event-stream", b"123")
    assert again.head.vendor_headers == {"request-id": "req-1"}
    assert len(relay.vendor.calls) == 1
    assert len(relay.desk.turns.facts) == 1


async def test_of_what_was_blocked_nothing_is_kept_and_its_key_is_free() -> None:
    blocked = piece(b"3", Ended("content_filter", USAGE))
    relay = Relay(ScriptedVendor([piece(b"1", Began("c-1", None)), blocked]))
    await relay(key="k")
    assert relay.desk.outcome is Outcome.CONTENT_BLOCKED
    assert relay.desk.only_settlement.stored_answer is None
    assert await relay.desk.turns.earlier(ada, "k") is None


async def test_what_went_wrong_at_the_vendor_and_said_nothing_is_no_answer() -> None:
    wrong = piece(b"3", Ended("other", USAGE, why="MALFORMED_RESPONSE"))
    relay = Relay(ScriptedVendor([piece(b"1", Began("c-1", None)), wrong]))
    with capture_logs() as logs:
        await relay(key="k")
    assert b"".join(relay.client.heard) == b"13"  # its client hears it in the vendor's words
    assert relay.desk.outcome is Outcome.PROVIDER_FAILED
    assert relay.desk.only_settlement.usage == USAGE
    assert relay.desk.admission.reservations[0].refunds == 1
    told = [(line["outcome"], line["why"]) for line in logs if line["event"] == "nothing_answered"]
    assert told == [("provider_failed", "MALFORMED_RESPONSE")]
    assert await relay.desk.turns.earlier(ada, "k") is None


async def test_the_client_gets_its_answer_while_our_database_is_away() -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())
    desk.turns.failing = 1
    relay = Relay(ScriptedVendor(), desk=desk)
    await relay()
    assert relay.client.ended == [None]
    assert relay.desk.outcome is Outcome.DONE


async def test_what_is_ended_before_the_vendor_was_asked_is_charged_nothing() -> None:
    at_once = RunningTurns(None, (lambda turn: turn.end(Outcome.STOPPED),))
    desk = Desk(MemoryTurns(), ScriptedProvider(), running=at_once)
    relay = Relay(ScriptedVendor(), desk=desk)
    with pytest.raises(AnswerEnded):
        await relay()
    assert relay.vendor.calls == []
    assert desk.only_settlement.usage == Usage(source="counted")


async def test_a_client_that_can_not_be_told_the_end_ends_no_settlement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_call, "_SETTLE_PATIENCE_SECONDS", 0.0)
    relay, is_back = Relay(ScriptedVendor()), asyncio.Event()
    settle = relay.desk.turns.settle

    async def later(*parts: Any) -> bool:
        await is_back.wait()
        return await settle(*parts)

    async def broken(_failure: ExpectedFailure | None) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(relay.desk.turns, "settle", later)
    monkeypatch.setattr(relay.client, "end", broken)
    with capture_logs() as logs:
        task = asyncio.create_task(relay())
        await asyncio.sleep(0.01)
        # Whoever drains waits for it, and its lease is renewed.
        assert len(relay.desk.running.progress()) == 1
        is_back.set()
        await task
    assert [line["event"] for line in logs] == ["client_not_told"]
    assert relay.desk.outcome is Outcome.DONE


async def test_what_takes_too_long_is_cut_and_may_be_charged() -> None:
    relay = Relay(ScriptedVendor([asyncio.Event()]), longest=timedelta(seconds=0.05))
    await relay()
    assert [type(failure) for failure in relay.client.ended] == [TurnTooLong]
    settlement = relay.desk.only_settlement
    assert (settlement.outcome, settlement.usage.source) == (Outcome.PROVIDER_FAILED, "estimated")


async def test_an_answer_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_call, "LONGEST_ANSWER", 100)
    relay = Relay(ScriptedVendor([piece(b"1", Text("and on "))] * 100))
    await relay()
    assert [type(failure) for failure in relay.client.ended] == [VendorFailed]
    assert len(relay.client.heard) == 14
    assert relay.desk.outcome is Outcome.PROVIDER_FAILED


async def test_of_what_nobody_counted_no_more_is_charged_than_was_allowed() -> None:
    relay = Relay(
        ScriptedVendor([piece(b"1", Text("word" * 100)), piece(b"2", Ended("stop", None))])
    )
    relay.body = BODY.replace(b"{", b'{"max_completion_tokens":40,', 1)
    await relay()
    usage = relay.desk.only_settlement.usage
    assert (usage.source, usage.output_tokens) == ("estimated", 40)


async def test_the_users_own_cap_holds_for_it() -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())
    desk.turns.cap = 500
    await Relay(ScriptedVendor(), desk=desk)()
    assert [request.cap_microusd for request in desk.admission.requests] == [500]


async def test_what_it_may_cost_is_by_the_tier_of_service_that_it_asks_for() -> None:
    costs = []
    for word in (b"flex", b"auto", b"priority", b"fast"):
        desk = Desk(MemoryTurns(), ScriptedProvider(), price=quote)
        desk.turns.cap = 500
        body = BODY.replace(b"{", b'{"service_tier":"' + word + b'",', 1)
        await Relay(ScriptedVendor(), desk=desk, body=body)()
        costs.append(desk.admission.requests[0].cost_microusd)
    assert costs == [250, 501, 1_001, 1_001]


@pytest.mark.parametrize(
    ("begins", "tier"),
    [
        ([], "priority"),
        ([piece(b"1", Began("c-1", None))], "priority"),
        ([piece(b"1", Began("c-1", None, Usage(service_tier="default")))], "default"),
    ],
)
async def test_what_broke_off_is_of_the_tier_of_service_that_was_told_or_else_asked_for(
    begins: list[Step], tier: str
) -> None:
    body = BODY.replace(b"{", b'{"service_tier":"priority",', 1)
    relay = Relay(ScriptedVendor([*begins, VendorFailed("openai")]), body=body)
    with pytest.raises(VendorFailed):
        await relay(streamed=False)
    usage = relay.desk.only_settlement.usage
    assert (usage.service_tier, usage.source) == (tier, "estimated")
    assert usage.input_tokens > 0


async def test_it_ends_with_the_key_that_it_runs_on_and_no_other() -> None:
    key = KeyInUse()
    key.answered("openai", UsedKey(ada, "openai", 2).told)
    vendor = ScriptedVendor([ANSWER[0], asyncio.Event()])
    relay = Relay(vendor, by=replace(BY, key=key))
    task = await relay.begun(1)
    old, new = (Revocation(ada, "openai", NOON, version) for version in (1, 2))
    assert relay.desk.running.end_on_key(old, Outcome.STOPPED) == 0
    assert relay.desk.running.end_on_key(new, Outcome.STOPPED) == 1
    await task


async def test_of_what_is_too_long_to_be_kept_a_repetition_makes_no_other_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_call, "_LARGEST_KEPT", 2)
    relay = Relay(ScriptedVendor())
    await relay(key="k")
    with pytest.raises(AnswerNotKept):
        await relay(key="k")
    assert len(relay.vendor.calls) == 1
    monkeypatch.setattr(relay_call, "_LARGEST_KEPT", 3)
    await relay(key="another")
    assert isinstance(await relay(key="another"), RepeatedAnswer)


async def test_what_its_vendor_thought_is_estimated_once() -> None:
    told = Usage(input_tokens=10, output_tokens=10, output_reasoning_tokens=10)
    thought: list[Step] = [
        piece(b"1", Began("c-1", None, told), Thinking("x" * 40)),
        VendorFailed("openai"),
    ]
    relay = Relay(ScriptedVendor(thought))
    await relay()
    assert relay.desk.only_settlement.usage.output_tokens == 10


async def test_a_call_of_a_tool_counts_and_is_kept_only_while_somebody_hears_it() -> None:
    call = ToolCallPiece(0, "call-1", "look_up", "x" * 40)
    relay = Relay(ScriptedVendor([piece(b"1", call), VendorFailed("openai")]))
    await relay()
    settlement = relay.desk.only_settlement
    assert (len(settlement.tool_calls), settlement.usage.output_tokens) == (1, 10)

    more = asyncio.Event()
    steps: list[Step] = [
        piece(b"1", Began("c-1", None)),
        more,
        piece(b"2", call),
        piece(b"3", Ended("stop", None)),
    ]
    unheard = Relay(ScriptedVendor(steps, on_leaving=OnLeaving.DRAIN))
    task = await unheard.begun(1)
    unheard.client.leaves.set()
    await asyncio.sleep(0.01)
    more.set()
    await task
    assert unheard.desk.only_settlement.tool_calls == ()


@pytest.mark.parametrize("patience", [0.02, 5.0])
async def test_its_client_hears_the_end_once_it_is_settled_but_does_not_wait_for_long(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(relay_call, "_SETTLE_PATIENCE_SECONDS", patience)
    relay, is_back, is_told = Relay(ScriptedVendor()), asyncio.Event(), asyncio.Event()
    settle, settled_first = relay.desk.turns.settle, []

    async def later(*parts: Any) -> bool:
        await is_back.wait()
        return await settle(*parts)

    async def told(_failure: ExpectedFailure | None) -> None:
        settled_first.append(bool(relay.desk.turns.settled))
        is_told.set()

    monkeypatch.setattr(relay.desk.turns, "settle", later)
    monkeypatch.setattr(relay.client, "end", told)
    task = asyncio.create_task(relay())
    if patience < 1:
        await asyncio.wait_for(is_told.wait(), 2)
    else:
        await asyncio.sleep(0.01)
    is_back.set()
    await task
    assert settled_first == [patience > 1]


async def test_what_the_vendor_told_as_it_began_is_kept_of_what_broke_off() -> None:
    began = Began("c-1", "gpt-6-luna-2026", Usage(input_tokens=77))
    relay = Relay(ScriptedVendor([piece(b"1", began, Text("one ")), VendorFailed("openai")]))
    await relay()
    settlement = relay.desk.only_settlement
    assert (settlement.usage.input_tokens, settlement.usage.source) == (77, "estimated")
    assert settlement.model == "gpt-6-luna-2026"


@pytest.mark.parametrize(
    "steps",
    [
        [piece(b"1", Began("c-1", None), Thinking("hm")), VendorFailed("openai")],
        [piece(b"1", Began("c-1", None)), piece(b"2", Ended("stop", USAGE))],
    ],
    ids=["thinking", "what we do not read"],
)
async def test_whatever_was_seen_counts_in_the_limits(steps: list[Step]) -> None:
    relay = Relay(ScriptedVendor(steps))
    await relay()
    (place,) = relay.desk.admission.reservations
    assert (len(place.settled), place.refunds) == (1, 0)


async def test_a_drain_makes_room_for_the_next_and_ends_at_once_with_its_key() -> None:
    vendor = ScriptedVendor([ANSWER[0], asyncio.Event()], on_leaving=OnLeaving.DRAIN)
    relay = Relay(vendor, drains=Drains(1))
    task = await relay.begun(1)
    relay.client.leaves.set()
    await asyncio.sleep(0.01)
    assert not relay.drains.take()
    gone = Revocation(ada, "openai", NOON)
    assert relay.desk.running.end_on_key(gone, Outcome.STOPPED) == 1
    await asyncio.wait_for(task, 0.9)
    assert relay.drains.take()
    assert relay.desk.only_settlement.usage.source == "estimated"


async def test_a_bug_after_the_vendor_was_asked_may_be_charged() -> None:
    relay = Relay(ScriptedVendor([ZeroDivisionError()]))
    with capture_logs():
        await relay()
    assert (relay.desk.outcome, len(relay.desk.turns.facts)) == (Outcome.PROVIDER_FAILED, 1)


async def test_what_has_not_begun_has_no_end() -> None:
    relay = Relay(ScriptedVendor(fails_first=2))
    with pytest.raises(VendorFailed):
        await relay()
    assert (relay.client.head, relay.client.ended) == (None, [])


async def test_of_an_answer_that_only_thought_unseen_the_limits_know_nothing() -> None:
    thought = Usage(input_tokens=10, output_tokens=5, output_reasoning_tokens=5)
    ended = piece(b"2", Ended("stop", thought))
    relay = Relay(ScriptedVendor([piece(b"1", Began("c-1", None)), ended]))
    await relay()
    assert relay.desk.admission.reservations[0].refunds == 1


async def test_limits_come_back_before_a_slow_drain_ends_and_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_call, "_SLOW_DRAIN_SECONDS", 0.01)
    monkeypatch.setattr(relay_call, "_DRAIN_SECONDS", 0.1)
    vendor = ScriptedVendor([ANSWER[0], asyncio.Event()], on_leaving=OnLeaving.DRAIN)
    relay = Relay(vendor)
    task = await relay.begun(1)
    relay.client.leaves.set()
    await asyncio.sleep(0.05)
    (place,) = relay.desk.admission.reservations
    assert (place.times_given_back, relay.desk.turns.settled) == (1, {})
    await asyncio.wait_for(task, 2)
    assert (place.times_given_back, relay.desk.outcome) == (1, Outcome.CLIENT_GONE)


async def test_without_room_for_a_drain_nobody_waits_for_one() -> None:
    vendor = ScriptedVendor([ANSWER[0], asyncio.Event()], on_leaving=OnLeaving.DRAIN)
    relay = Relay(vendor, drains=Drains(0))
    task = await relay.begun(1)
    relay.client.leaves.set()
    await asyncio.wait_for(task, 0.9)


@dataclass
class _Telling(ScriptedVendor):
    """One with an egress before it that tells, try by try, whose key served."""

    told: Sequence[UUID | None] = ()

    @asynccontextmanager
    async def call(self, call: RawCall, *, by: OnBehalfOf) -> AsyncIterator[RawAnswer]:
        owner = self.told[len(self.calls)]
        if owner is None:
            by.key.untold()
        else:
            by.key.answered("openai", UsedKey(owner, "openai", 1).told)
        async with super().call(call, by=by) as answer:
            yield answer


@pytest.mark.parametrize(
    ("told", "whose"),
    [
        ([UUID(int=70)], UUID(int=70)),
        ([ada], None),
        ([None], None),
        # The first try never reached the vendor: what counts is the key of the second.
        ([None, UUID(int=70)], UUID(int=70)),
        ([UUID(int=70), ada], None),
    ],
)
async def test_a_relayed_call_says_on_whose_key_it_ran(
    told: Sequence[UUID | None], whose: UUID | None
) -> None:
    relay = Relay(_Telling(told=told, fails_first=len(told) - 1))
    await relay()
    (fact,) = relay.desk.turns.facts
    assert fact.event.key_organisation_id == whose
