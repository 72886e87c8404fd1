"""Who ends a relayed call, and how: its client, its key, the server, the clock, a drain."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from services.chat.actions import relay_call
from services.chat.actions._read_answer import Drains
from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.errors import (
    AnswerEnded,
    TurnTooLong,
)
from services.chat.domain.frames import Ended, Text
from services.chat.domain.ports import Quote
from services.chat.domain.turn import Outcome
from services.chat.domain.usage import Usage
from shared.ids import UserId
from shared.revocation import KeyInUse, Revocation, UsedKey
from shared.vendors.failures import VendorFailed
from tests.support.chat import NOON, Desk, MemoryTurns, ScriptedProvider, ada
from tests.support.chat_relayed import (
    ANSWER,
    BY,
    USAGE,
    Relay,
    ScriptedVendor,
    piece,
)


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


async def test_what_a_slow_drain_finds_charged_counts_under_the_users_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def a_token_each(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
        return Quote(usage.output_tokens, "test")

    monkeypatch.setattr(relay_call, "_SLOW_DRAIN_SECONDS", 0.01)
    gate = asyncio.Event()
    charged = piece(b"3", Ended("stop", Usage(input_tokens=10, output_tokens=500)))
    vendor = ScriptedVendor([ANSWER[0], gate, charged], on_leaving=OnLeaving.DRAIN)
    desk = Desk(MemoryTurns(), ScriptedProvider(), price=a_token_each)
    relay = Relay(vendor, desk=desk)
    task = await relay.begun(1)
    relay.client.leaves.set()
    await asyncio.sleep(0.05)
    (place,) = desk.admission.reservations
    assert [cost for _, cost in place.settled] == [1]
    gate.set()
    await asyncio.wait_for(task, 2)
    assert desk.only_settlement.cost_microusd == 500
    assert place.owed == [499]


async def test_without_room_for_a_drain_nobody_waits_for_one() -> None:
    vendor = ScriptedVendor([ANSWER[0], asyncio.Event()], on_leaving=OnLeaving.DRAIN)
    relay = Relay(vendor, drains=Drains(0))
    task = await relay.begun(1)
    relay.client.leaves.set()
    await asyncio.wait_for(task, 0.9)
