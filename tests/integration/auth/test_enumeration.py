"""Nobody learns from an answer, or from how long it takes, whether somebody has an account."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.db.database import Database
from tests.support.auth import RunningAuth, running_auth

Ask = Callable[[str], Awaitable[httpx.Response]]

PEOPLE = 6
# As many wrong passwords as an account of this service may have.
ROUNDS = 16
PAIRS = PEOPLE * ROUNDS


@dataclass(frozen=True, slots=True)
class Street:
    """Some who live here, and as many who don't."""

    auth: RunningAuth
    known: Sequence[str]
    unknown: Sequence[str]


@pytest.fixture(scope="module")
async def street(
    database_url: str,
    cache_url: str,
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Street]:
    async with running_auth(
        database_url,
        tmp_path_factory.mktemp("street"),
        cache_url=cache_url,
        login_failures=100,
        # Enough to be seen if it were left out for one of the two.
        argon2_memory_kib=1024,
    ) as auth:
        known = [(await auth.register()).json()["user"]["email"] for _ in range(PEOPLE)]
        # So long are the others' too.
        unknown = [f"user{uuid4().hex[:12]}@example.com" for _ in range(PEOPLE)]
        await database.execute(
            "update user_account set email_verified = true where email = any($1)", known
        )
        yield Street(auth, known, unknown)


def login(auth: RunningAuth) -> Ask:
    return lambda email: auth.login(email, "a wrong password")


def register(auth: RunningAuth) -> Ask:
    return lambda email: auth.register(email=email)


def forgot(auth: RunningAuth) -> Ask:
    return lambda email: auth.client.post("/auth/password/forgot", json={"email": email})


DOORS = {"login": login, "register": register, "forgot": forgot}


@pytest.mark.parametrize("door", DOORS)
async def test_the_answers_are_the_same(street: Street, door: str) -> None:
    ask = DOORS[door](street.auth)
    known, unknown = await ask(street.known[0]), await ask(street.unknown[0])
    assert known.status_code == unknown.status_code
    assert _comparable(known.json()) == _comparable(unknown.json())
    assert list(known.headers) == list(unknown.headers)
    telling = {"x-request-id", "traceparent", "date", "content-length"}
    for name in set(known.headers) - telling:
        assert known.headers[name] == unknown.headers[name]
    if door != "register":  # There the length is that of the names that were sent.
        assert known.headers["content-length"] == unknown.headers["content-length"]


def _comparable(body: Any) -> Any:
    """Without what is the sender's own, or other each time."""
    if not isinstance(body, dict):
        return body
    own = {"id", "email", "username", "created_at", "updated_at", "request_id"}
    return {name: name if name in own else _comparable(value) for name, value in body.items()}


@pytest.mark.parametrize("door", DOORS)
async def test_the_answers_take_as_long(street: Street, door: str) -> None:
    ask = DOORS[door](street.auth)
    await _measured(ask, street.known[:1], street.unknown[:1])  # The first ones are slower.
    verdicts = []
    # A machine that was busy with something else gets another chance; a leak has none.
    for _ in range(3):
        known, unknown = await _measured(ask, street.known, street.unknown)
        share, ratio = _share_slower(known, unknown), median(known) / median(unknown)
        verdicts.append((round(share, 3), round(ratio, 3)))
        if abs(share - 0.5) < 0.17 and 0.8 < ratio < 1.25:
            return
    raise AssertionError(f"share of slower answers, ratio of medians: {verdicts}")


async def _measured(
    ask: Ask, known: Sequence[str], unknown: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Taken in turns, and in turns first, so that whatever else happens meets both."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS):
        for pair in zip(known, unknown, strict=True):
            for which in (0, 1) if turn % 2 else (1, 0):
                began = time.perf_counter()
                await ask(pair[which])
                times[which].append(time.perf_counter() - began)
    return times


def _share_slower(first: Sequence[float], second: Sequence[float]) -> float:
    """How often one of the first takes longer than one of the second: a half, if they are alike
    (Mann and Whitney's U over its largest value; with 96 each its deviation is 0.04)."""
    wins = sum((a > b) + (a == b) / 2 for a in first for b in second)
    return wins / (len(first) * len(second))


def test_the_measure_sees_a_difference() -> None:
    alike = [0.004 + n / 1e5 for n in range(PAIRS)]
    slower = [seconds + 0.0005 for seconds in alike]
    assert _share_slower(alike, alike) == pytest.approx(0.5)
    assert _share_slower(slower, alike) > 0.85
