"""What a relayed call is charged for, and what counts in the limits."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from services.chat.api.dropin_openai_calls import read_response
from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.errors import (
    AnswerEnded,
)
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Outcome
from services.chat.domain.usage import Usage
from services.chat.wiring import quote
from shared.vendors.failures import VendorFailed, VendorOverloaded
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, ada
from tests.support.chat_relayed import (
    BODY,
    USAGE,
    Relay,
    ScriptedVendor,
    Step,
    piece,
)


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


async def test_what_is_ended_before_the_vendor_was_asked_is_charged_nothing() -> None:
    at_once = RunningTurns(None, (lambda turn: turn.end(Outcome.STOPPED),))
    desk = Desk(MemoryTurns(), ScriptedProvider(), running=at_once)
    relay = Relay(ScriptedVendor(), desk=desk)
    with pytest.raises(AnswerEnded):
        await relay()
    assert relay.vendor.calls == []
    assert desk.only_settlement.usage == Usage(source="counted")


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
    assert costs == [250, 501, 1_002, 1_002]


ADDRESSED = (
    b'{"model":"gpt-6-luna","stream":%b,"max_output_tokens":100,"input":[{"role":"user","content":['
    b'{"type":"input_file","file_url":"https://papers.test/a.pdf"}]}]}'
)


async def test_a_file_that_only_the_vendor_reads_takes_the_room_of_all_that_a_call_may_carry() -> (
    None
):
    desk = Desk(MemoryTurns(), ScriptedProvider(), price=quote)
    desk.turns.cap = 1_000_000
    vendor = ScriptedVendor([piece(b"1", Text("one"))])
    relay = Relay(vendor, desk=desk, body=ADDRESSED, read=read_response, tier="pro")
    await relay()
    [asked] = desk.admission.requests
    # Pro's context at OpenAI, less what vendors add; for 0.125 dollars a million, if it is cached.
    assert (asked.tokens, asked.cost_microusd) == (128_000 - 500, 15_975)
    # Of what nobody counted no more is charged than for any file.
    assert desk.only_settlement.usage.input_tokens < 2_000


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


async def test_a_bug_after_the_vendor_was_asked_may_be_charged() -> None:
    relay = Relay(ScriptedVendor([ZeroDivisionError()]))
    with capture_logs():
        await relay()
    assert (relay.desk.outcome, len(relay.desk.turns.facts)) == (Outcome.PROVIDER_FAILED, 1)


async def test_of_an_answer_that_only_thought_unseen_the_limits_know_nothing() -> None:
    thought = Usage(input_tokens=10, output_tokens=5, output_reasoning_tokens=5)
    ended = piece(b"2", Ended("stop", thought))
    relay = Relay(ScriptedVendor([piece(b"1", Began("c-1", None)), ended]))
    await relay()
    assert relay.desk.admission.reservations[0].refunds == 1
