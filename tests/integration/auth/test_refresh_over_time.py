"""Refresh tokens on the real database, with a clock that can be moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from services.auth.actions.refresh import Refresh
from services.auth.domain.errors import RefreshRefused, RefreshReused
from services.auth.domain.refresh_token import RefreshToken
from services.auth.domain.token_pair import TokenPair
from services.auth.storage.unit_of_work import SqlWork
from tests.support.auth import (
    LIFETIMES,
    StoppedClock,
    a_sign_in,
    a_user,
    an_issuer,
    some_signing_keys,
)

NewWork = Callable[[], SqlWork]


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def refresh(new_work: NewWork, clock: StoppedClock) -> Refresh:
    return Refresh(new_work, an_issuer(), LIFETIMES, clock)


@pytest.fixture
async def token(new_work: NewWork) -> str:
    user = a_user(f"user{uuid4().hex[:12]}")
    sign_in = a_sign_in(user)
    async with new_work() as work:
        await work.users.add(user)
        await work.sign_ins.add(sign_in)
    return RefreshToken.current_of(sign_in, some_signing_keys().pepper(1)).encoded


async def test_a_lost_answer_can_be_asked_for_again_for_ten_seconds(
    refresh: Refresh, clock: StoppedClock, token: str
) -> None:
    successor = (await refresh(token)).refresh_token
    clock.forward(timedelta(seconds=10))
    assert (await refresh(token)).refresh_token == successor
    clock.forward(timedelta(seconds=1))
    with pytest.raises(RefreshReused):
        await refresh(token)
    with pytest.raises(RefreshRefused):
        await refresh(successor)


async def test_fifty_late_uses_of_a_parent_end_the_family_and_give_nothing(
    refresh: Refresh, clock: StoppedClock, token: str
) -> None:
    successor = (await refresh(token)).refresh_token
    clock.forward(timedelta(seconds=11))
    results = await asyncio.gather(*(refresh(token) for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} <= {RefreshReused, RefreshRefused}
    with pytest.raises(RefreshRefused):
        await refresh(successor)


async def test_a_thief_and_the_owner_at_once_never_hold_two_different_successors(
    refresh: Refresh, token: str
) -> None:
    for _ in range(5):
        results = await asyncio.gather(*(refresh(token) for _ in range(8)))
        [token] = {result.refresh_token for result in results}
    assert isinstance(results[0], TokenPair)


async def test_idle_and_absolute_ends_hold(
    refresh: Refresh, clock: StoppedClock, token: str
) -> None:
    for _ in range(6):
        clock.forward(timedelta(days=14) - timedelta(seconds=1))
        token = (await refresh(token)).refresh_token
    clock.forward(timedelta(days=6) + timedelta(seconds=6))
    with pytest.raises(RefreshRefused):
        await refresh(token)
