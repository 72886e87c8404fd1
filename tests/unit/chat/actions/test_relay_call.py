"""A relayed call: one settlement whatever happens, and a client that sets the pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from services.chat.actions import relay_call
from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.errors import (
    AnswerNotKept,
    VendorRejectedRequest,
)
from services.chat.domain.frames import Began, Ended
from services.chat.domain.raw_calls import RawAnswer, RawCall, RawRefusal
from services.chat.domain.relayed import RepeatedAnswer
from services.chat.domain.turn import Outcome
from services.chat.domain.usage import Usage
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.revocation import UsedKey
from shared.vendors.failures import VendorFailed
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, ada
from tests.support.chat_relayed import (
    ANSWER,
    USAGE,
    Client,
    Relay,
    ScriptedVendor,
    piece,
)


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


async def test_the_client_gets_its_answer_while_our_database_is_away() -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())
    desk.turns.failing = 1
    relay = Relay(ScriptedVendor(), desk=desk)
    await relay()
    assert relay.client.ended == [None]
    assert relay.desk.outcome is Outcome.DONE


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


async def test_what_has_not_begun_has_no_end() -> None:
    relay = Relay(ScriptedVendor(fails_first=2))
    with pytest.raises(VendorFailed):
        await relay()
    assert (relay.client.head, relay.client.ended) == (None, [])


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
