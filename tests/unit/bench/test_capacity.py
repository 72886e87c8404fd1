"""The model of capacity fits what was measured, and its page says what it computes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bench.capacity.__main__ import ONE_POOL, ONE_POOLS_TARGET, OWN_POOLS, STEADY
from bench.capacity.autoscaler import Autoscaler, Policies, Rules
from bench.capacity.figures import ONE_POOL_FLOODED, ONE_POOL_TURN_MS, STREAMS_CORE
from bench.capacity.model import (
    SIZES,
    Sized,
    streams_use_of_a_core,
    turn_beside_a_flood,
)
from bench.capacity.page import PAGE, with_tables
from bench.capacity.simulation import Run, Scenario, simulate

UP = Policies(0, True, [("Percent", 100, 30), ("Pods", 2, 30)])
DOWN = Policies(300, False, [("Percent", 25, 60), ("Pods", 2, 60)])


def test_the_page_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run: python -m bench.capacity.page"


def test_it_comes_near_to_what_it_was_not_made_from() -> None:
    assert streams_use_of_a_core(50, 64, 0.020) == pytest.approx(STREAMS_CORE, rel=0.25)
    assert turn_beside_a_flood(ONE_POOL_FLOODED) == pytest.approx(ONE_POOL_TURN_MS, rel=0.25)


def test_ten_times_as_many_users_need_ten_times_the_work_and_no_tier_less_than_its_least() -> None:
    small, middle, _ = (Sized.of(users) for users in SIZES)
    assert middle.turns_a_second == pytest.approx(10 * small.turns_a_second)
    assert [small.chat_replicas(tier) for tier in ("free", "pro", "enterprise")] == [1, 2, 2]


def scaler(replicas: int) -> Autoscaler:
    return Autoscaler(Rules(1, 20, 100, UP, DOWN), replicas)


def test_it_grows_by_as_much_again_in_half_a_minute() -> None:
    scaling = scaler(4)
    assert [scaling.decide(now, 9_999) for now in (0, 15, 30, 45, 60)] == [8, 8, 16, 16, 20]


def test_a_small_difference_changes_nothing() -> None:
    assert scaler(4).decide(0, 430) == 4
    assert scaler(4).decide(0, 450) == 5


def test_it_shrinks_by_little_and_only_after_five_calm_minutes() -> None:
    scaling = scaler(12)
    scaling.decide(0, 1_200)
    calm = [scaling.decide(now, 300) for now in range(15, 435, 15)]
    assert set(calm[:19]) == {12}
    assert calm[19:] == [10, 10, 10, 10, 8, 8, 8, 8, 6]


def run(pools: Mapping[str, tuple[str, ...]], *, least: int = 0, seed: int = 8) -> Run:
    scenario = Scenario(STEADY, "free", 30, seed=seed, shared_least=least)
    return simulate(scenario, pools, target=ONE_POOLS_TARGET)


def test_a_burst_is_felt_in_its_own_pool_alone() -> None:
    own, shared = run(OWN_POOLS), run(ONE_POOL)
    assert own.tiers["free"].percentile(99) > 1_000
    for tier in ("pro", "enterprise"):
        assert own.tiers[tier].percentile(99) < 50
        assert shared.tiers[tier].percentile(99) > 1_000
    assert own.pools["free"].most > own.pools["free"].started_with
    assert own.seconds_over["free"] < 300  # the autoscaler ends it before the burst does


def test_what_all_tiers_share_needs_room_for_it() -> None:
    narrow, roomy = run(OWN_POOLS, least=2), run(OWN_POOLS, least=4)
    assert narrow.tiers["pro"].percentile(99) > 1_000
    assert roomy.tiers["pro"].percentile(99) < 50


def test_the_same_seed_tells_the_same() -> None:
    first, again, other = run(OWN_POOLS), run(OWN_POOLS), run(OWN_POOLS, seed=9)
    assert first.tiers["free"].waits == again.tiers["free"].waits
    assert first.tiers["free"].waits != other.tiers["free"].waits
