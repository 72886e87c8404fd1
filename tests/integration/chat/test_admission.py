"""Admission as chat's tiers grant it, on the real Valkey."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from services.chat.domain.conversation import MessageId
from services.chat.domain.ports import AdmissionRequest
from services.chat.domain.turn import Hold, Surface, TurnId
from services.chat.storage.admission import ChatReservation, ValkeyAdmission
from shared.errors import DependencyUnavailable, LimitReached
from shared.ids import EventId, UserId
from shared.limit_state import LimitState
from shared.limits.admission import Admissions
from shared.limits.current_tiers import CurrentTiers
from shared.tiers import COMPATIBLE, TIERS, TierChanged
from shared.valkey import open_cache
from tests.support.engines import ValkeyServer

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)
FREE, PRO = replace(TIERS["free"], concurrent_streams=2), TIERS["pro"]


@pytest.fixture
async def cache(valkey_server: ValkeyServer) -> AsyncIterator[Redis]:
    with valkey_server.fresh_database() as url:
        async with open_cache(url) as cache:
            yield cache


@pytest.fixture
def admission(cache: Redis) -> ValkeyAdmission:
    return ValkeyAdmission(Admissions(cache))


@pytest.fixture
def request_() -> AdmissionRequest:
    """A turn of a free user, of 500 tokens and unknown cost."""
    return AdmissionRequest(
        user_id=UserId(uuid4()),
        tier=FREE,
        provider="openai",
        now=NOW,
        reservation=uuid4(),
        tokens=500,
        cost_microusd=None,
        cap_microusd=None,
    )


def another(request: AdmissionRequest, **changes: object) -> AdmissionRequest:
    return replace(request, reservation=uuid4(), **changes)  # type: ignore[arg-type]


def spent(amount: int) -> Callable[[], Awaitable[int]]:
    async def tell() -> int:
        return amount

    return tell


async def refusal(admission: ValkeyAdmission, request: AdmissionRequest) -> LimitReached:
    with pytest.raises(LimitReached) as refused:
        await admission.admit(request, spent=spent(0))
    return refused.value


async def standing(
    admission: ValkeyAdmission, request: AdmissionRequest
) -> dict[str, tuple[int, int, int]]:
    """Used, reserved and remaining by name."""
    states = await admission.states(
        request.user_id, request.tier, now=NOW, cap_microusd=request.cap_microusd
    )
    return {state.name: (state.used, state.reserved, state.remaining) for state in states}


async def test_a_turn_is_counted_in_every_window(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    minute, day = timedelta(minutes=1), timedelta(days=1)
    turn = await admission.admit(request_, spent=spent(0))
    ends = NOW.replace(minute=31, second=0)
    assert turn.limits == [
        LimitState("openai.requests_per_minute", 5, 1, minute, ends),
        LimitState("openai.requests_per_day", 50, 1, day, datetime(2030, 5, 18, tzinfo=UTC)),
        LimitState("openai.tokens_per_minute", 100_000, 500, minute, ends),
        LimitState("concurrent_streams", 2, 1, timedelta(), NOW + timedelta(seconds=3)),
    ]
    assert await standing(admission, request_) == {
        "openai.requests_per_minute": (0, 1, 4),
        "openai.requests_per_day": (0, 1, 49),
        "openai.tokens_per_minute": (0, 500, 99_500),
        "concurrent_streams": (1, 0, 1),
    }
    await turn.settle(tokens=120, cost_microusd=77)
    assert await standing(admission, request_) == {
        "openai.requests_per_minute": (1, 0, 4),
        "openai.requests_per_day": (1, 0, 49),
        "openai.tokens_per_minute": (120, 0, 99_880),
        "concurrent_streams": (0, 0, 2),
    }


async def test_a_turn_that_brought_nothing_takes_nothing(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    turn = await admission.admit(another(request_, cap_microusd=9, cost_microusd=4), spent=spent(3))
    await turn.refund()
    await turn.settle(tokens=120, cost_microusd=77)
    assert await standing(admission, replace(request_, cap_microusd=9)) == {
        "openai.requests_per_minute": (0, 0, 5),
        "openai.requests_per_day": (0, 0, 50),
        "openai.tokens_per_minute": (0, 0, 100_000),
        "monthly_spend": (3, 0, 6),
        "concurrent_streams": (0, 0, 2),
    }


async def test_what_brought_nothing_and_cost_something_counts_as_money_alone(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    capped = replace(request_, cap_microusd=1_000, cost_microusd=300)
    turn = await admission.admit(another(capped), spent=spent(500))
    await turn.refund(cost_microusd=70)
    await turn.settle(tokens=120, cost_microusd=77)
    assert await standing(admission, capped) == {
        "openai.requests_per_minute": (0, 0, 5),
        "openai.requests_per_day": (0, 0, 50),
        "openai.tokens_per_minute": (0, 0, 100_000),
        "monthly_spend": (570, 0, 430),
        "concurrent_streams": (0, 0, 2),
    }


@pytest.mark.parametrize(("used", "says"), [(60, "fit into what is left"), (100, "is reached")])
async def test_who_has_money_left_for_something_smaller_is_told_so(
    admission: ValkeyAdmission, request_: AdmissionRequest, used: int, says: str
) -> None:
    capped = replace(request_, cap_microusd=100, cost_microusd=41)
    with pytest.raises(LimitReached, match=says) as refused:
        await admission.admit(capped, spent=spent(used))
    assert refused.value.facts["scope"] == "monthly_spend"
    smaller = another(capped, cost_microusd=40)
    if used < 100:
        assert await admission.admit(smaller, spent=spent(used))


@pytest.mark.parametrize("reached", [True, False])
async def test_what_is_charged_later_counts_as_money_once(
    admission: ValkeyAdmission, request_: AdmissionRequest, *, reached: bool
) -> None:
    capped = replace(request_, cap_microusd=1_000, cost_microusd=300)
    turn = await admission.admit(another(capped), spent=spent(500))
    if reached:
        await turn.settle(tokens=120, cost_microusd=70)
    else:
        await turn.refund(cost_microusd=70)
    before = await standing(admission, capped)
    assert before["monthly_spend"] == (570, 0, 430)
    await turn.owes(cost_microusd=30)
    await turn.owes(cost_microusd=30)
    assert await standing(admission, capped) == {**before, "monthly_spend": (600, 0, 400)}


async def test_what_is_charged_later_makes_no_count_of_money_where_there_is_none(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    turn = await admission.admit(another(request_), spent=spent(0))
    await turn.settle(tokens=120, cost_microusd=70)
    await turn.owes(cost_microusd=30)
    capped = replace(request_, cap_microusd=1_000)
    assert "monthly_spend" not in await standing(admission, capped)


@pytest.mark.parametrize(("is_moved", "reached"), [(False, True), (True, True), (False, False)])
async def test_the_place_of_a_turn_of_another_process(
    cache: Redis,
    admission: ValkeyAdmission,
    request_: AdmissionRequest,
    *,
    is_moved: bool,
    reached: bool,
) -> None:
    capped = replace(request_, tier=PRO, cap_microusd=1_000, cost_microusd=300)
    hold = a_hold_for(capped)
    id_ = hold.place_at("openai") if is_moved else hold.id
    await admission.admit(replace(capped, reservation=id_), spent=spent(0))
    for place in ValkeyAdmission(Admissions(cache)).places_of(hold):
        if reached:
            await place.settle(tokens=40, cost_microusd=90)
        else:
            await place.refund(cost_microusd=90)
    now = await standing(admission, capped)
    assert now["monthly_spend"] == (90, 0, 910)
    assert now["openai.requests_per_day"] == (int(reached), 0, 500 - int(reached))
    assert now["openai.tokens_per_minute"][:2] == (40 if reached else 0, 0)
    assert now["concurrent_streams"] == (0, 0, 20)


async def test_what_was_given_back_is_not_given_back_by_the_sweeper_though_valkey_was_away(
    cache: Redis, admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    capped = replace(request_, tier=PRO, cap_microusd=1_000, cost_microusd=300)
    hold = a_hold_for(capped)
    other = await admission.admit(another(capped), spent=spent(0))
    place = await admitted_alone(admission, replace(capped, reservation=hold.id))
    await other.settle(tokens=0, cost_microusd=0)
    await place.settle(tokens=40, cost_microusd=90)
    before = await standing(admission, capped)

    for again in ValkeyAdmission(Admissions(cache)).places_of(hold):
        await again.settle(tokens=40, cost_microusd=90)

    assert await standing(admission, capped) == before


async def test_nor_is_the_place_that_a_turn_was_moved_from(
    cache: Redis, admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    capped = replace(request_, tier=PRO, cap_microusd=1_000, cost_microusd=300)
    hold = a_hold_for(capped)
    other = await admission.admit(another(capped), spent=spent(0))
    left = await admitted_alone(admission, replace(capped, reservation=hold.id))
    await other.settle(tokens=0, cost_microusd=0)
    await left.refund(cost_microusd=50)
    moved = replace(hold, provider="gemini")
    there = replace(capped, provider="gemini", reservation=moved.place_at("gemini"))
    await admission.admit(there, spent=spent(0))

    for place in ValkeyAdmission(Admissions(cache)).places_of(moved):
        await place.settle(tokens=40, cost_microusd=90)

    now = await standing(admission, capped)
    assert now["monthly_spend"][:2] == (50 + 90, 0)
    assert now["gemini.tokens_per_minute"][:2] == (40, 0)


async def admitted_alone(admission: ValkeyAdmission, request: AdmissionRequest) -> ChatReservation:
    """By this replica, while Valkey was away."""
    line = admission._admissions
    line._closed_until = time.monotonic() + 60
    place = await admission.admit(request, spent=spent(0))
    line._closed_until = 0.0
    return place


def a_hold_for(request: AdmissionRequest) -> Hold:
    return Hold(
        id=TurnId(uuid4()),
        user_id=request.user_id,
        session_id=None,
        question_id=None,
        answer_id=MessageId(uuid4()),
        usage_event_id=EventId(uuid4()),
        request_id="request-1",
        tier=request.tier.name,
        provider=request.provider,
        model="gpt-6-luna",
        input_estimate=10,
        created_at=request.now,
        lease_expires_at=request.now,
        surface=Surface.V1,
    )


async def test_too_many_at_once_may_come_back_in_seconds(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    turns = [await admission.admit(another(request_), spent=spent(0)) for _ in range(2)]
    refused = await refusal(admission, another(request_))
    assert refused.facts["scope"] == "concurrent_streams"
    assert (refused.facts["limit"], refused.facts["used"]) == (2, 2)
    assert refused.facts["upgrade_tier"] == "pro"
    assert refused.retry_after == timedelta(seconds=3)
    await turns[0].settle(tokens=1, cost_microusd=None)
    await admission.admit(another(request_), spent=spent(0))


async def test_streams_count_over_all_providers(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    tier = replace(PRO, concurrent_streams=1)
    await admission.admit(another(request_, tier=tier), spent=spent(0))
    refused = await refusal(admission, another(request_, tier=tier, provider="anthropic"))
    assert refused.facts["scope"] == "concurrent_streams"


async def test_a_request_larger_than_the_window_of_tokens_has_it_to_itself(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    turn = await admission.admit(another(request_, tokens=10**9), spent=spent(0))
    assert (await refusal(admission, another(request_, tokens=1))).facts["scope"] == (
        "openai.tokens_per_minute"
    )
    await turn.settle(tokens=19_999, cost_microusd=None)
    await admission.admit(another(request_, tokens=1), spent=spent(0))


async def test_the_users_own_cap_holds_and_no_larger_tier_lifts_it(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    capped = replace(request_, cap_microusd=1_000, cost_microusd=300)
    turn = await admission.admit(another(capped), spent=spent(500))
    refused = await refusal(admission, another(capped))
    assert (refused.facts["scope"], refused.facts["used"]) == ("monthly_spend", 800)
    assert refused.facts["upgrade_tier"] is None
    assert refused.facts["resets_at"] == datetime(2030, 6, 1, tzinfo=UTC)
    assert (await standing(admission, capped))["monthly_spend"] == (500, 300, 200)
    await turn.settle(tokens=10, cost_microusd=100)
    assert (await standing(admission, capped))["monthly_spend"] == (600, 0, 400)


async def test_an_unknown_cost_leaves_what_was_reserved(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    capped = replace(request_, cap_microusd=1_000, cost_microusd=300)
    turn = await admission.admit(another(capped), spent=spent(0))
    await turn.settle(tokens=10, cost_microusd=None)
    assert (await standing(admission, capped))["monthly_spend"] == (300, 0, 700)


async def test_a_cap_of_nothing_refuses_what_is_paid_for_and_no_more(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    nothing = replace(request_, cap_microusd=0)
    for cost in (1, None):
        refused = await refusal(admission, another(nothing, cost_microusd=cost))
        assert refused.facts["scope"] == "monthly_spend"
    await admission.admit(another(nothing, cost_microusd=0), spent=spent(0))


async def test_the_longest_numbers_are_only_numbers(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    huge = replace(request_, tokens=10**30, cap_microusd=10**30, cost_microusd=10**12)
    turn = await admission.admit(huge, spent=spent(-5))
    await turn.settle(tokens=10**30, cost_microusd=10**30)


async def test_windows_of_an_operators_own_server_are_told_to_its_users(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    assert not [name for name in await standing(admission, request_) if COMPATIBLE in name]
    await admission.admit(another(request_, provider=COMPATIBLE), spent=spent(0))
    assert (await standing(admission, request_))[f"{COMPATIBLE}.tokens_per_minute"] == (
        0,
        500,
        99_500,
    )


async def test_running_turns_keep_their_places(
    admission: ValkeyAdmission, cache: Redis, request_: AdmissionRequest
) -> None:
    await admission.admit(request_, spent=spent(0))
    streams = f"limit:{{{request_.user_id}}}:concurrent_streams"
    await cache.pexpire(streams, 1_000)
    await admission.renew([(request_.user_id, request_.reservation), (UserId(uuid4()), uuid4())])
    assert await cache.pttl(streams) > 20_000
    await admission.renew([])


async def test_without_valkey_the_windows_are_unknown_and_paid_turns_go_on(
    request_: AdmissionRequest,
) -> None:
    async with open_cache("redis://127.0.0.1:1/0") as nowhere:
        admission = ValkeyAdmission(Admissions(nowhere))
        with pytest.raises(DependencyUnavailable):
            await admission.states(request_.user_id, FREE, now=NOW, cap_microusd=None)
        with pytest.raises(DependencyUnavailable):
            await admission.admit(request_, spent=spent(0))
        paid = replace(request_, tier=replace(PRO, concurrent_streams=1))
        turn = await admission.admit(paid, spent=spent(0))
        assert turn.limits == []
        with pytest.raises(DependencyUnavailable):
            await admission.admit(another(paid), spent=spent(0))
        await turn.settle(tokens=5, cost_microusd=5)
        await (await admission.admit(another(paid), spent=spent(0))).refund()
        capped = another(paid, cap_microusd=100, cost_microusd=31)
        with pytest.raises(LimitReached) as refused:
            await admission.admit(capped, spent=spent(70))
        assert refused.value.facts["scope"] == "monthly_spend"
        await admission.renew([(request_.user_id, request_.reservation)])


async def test_without_valkey_paid_tiers_calls_that_cost_nothing_go_on_within_a_bound(
    request_: AdmissionRequest,
) -> None:
    async with open_cache("redis://127.0.0.1:1/0") as nowhere:
        admission = ValkeyAdmission(Admissions(nowhere))
        with pytest.raises(DependencyUnavailable):
            await admission.count_free_call(request_.user_id, FREE, now=NOW)
        await admission.count_free_call(request_.user_id, PRO, now=NOW)
        with pytest.raises(DependencyUnavailable):
            for _ in range(400):  # two minutes' worth and more, should one begin meanwhile
                await admission.count_free_call(request_.user_id, PRO, now=NOW)
        # And turns have what is theirs.
        await admission.admit(replace(request_, tier=PRO), spent=spent(0))


async def test_who_was_refused_is_refused_again_without_asking_until_it_may_have_changed(
    admission: ValkeyAdmission, request_: AdmissionRequest, cache: Redis
) -> None:
    for _ in range(5):
        place = await admission.admit(another(request_), spent=spent(0))
        await place.settle(tokens=1, cost_microusd=None)
    who = (request_.user_id, FREE, "openai")
    admission.refuse_if_full(*who, NOW)  # nobody was refused yet
    first = await refusal(admission, request_)
    await cache.flushdb()
    again = await refusal(admission, another(request_, now=NOW + timedelta(seconds=1)))
    with pytest.raises(LimitReached):
        admission.refuse_if_full(*who, NOW)
    assert again.facts == first.facts
    assert again.retry_after == first.retry_after - timedelta(seconds=1)
    admission.tier_changed(request_.user_id)
    admission.refuse_if_full(*who, NOW)
    assert await admission.admit(another(request_), spent=spent(0))


async def test_a_refusal_is_not_remembered_while_an_answer_may_give_back_its_request(
    admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    for _ in range(4):
        place = await admission.admit(another(request_), spent=spent(0))
        await place.settle(tokens=1, cost_microusd=None)
    running = await admission.admit(another(request_), spent=spent(0))
    await refusal(admission, request_)
    await running.refund()
    assert await admission.admit(another(request_), spent=spent(0))


async def test_a_told_tier_that_is_not_known_here_is_let_in_by_the_default(
    cache: Redis, admission: ValkeyAdmission, request_: AdmissionRequest
) -> None:
    await CurrentTiers(cache).tell({request_.user_id: "team"})
    with pytest.raises(TierChanged) as changed:
        await admission.admit(request_, spent=spent(0))
    known = another(request_, tier=changed.value.tier)
    place = await admission.admit(known, spent=spent(0))
    requests = {state.name: state.limit for state in place.limits}
    assert requests["openai.requests_per_day"] == 50
