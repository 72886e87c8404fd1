"""A token ends with its session, and nobody is asked about that at each request."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from shared.errors import DependencyUnavailable, SessionEnded
from shared.ids import UserId
from shared.news.living_sessions import LivingSessions, VerifierOfTheLiving
from shared.tokens import Identity

ONE, OTHER = uuid4(), uuid4()


class Lookup:
    """Knows which sessions have ended, unless it is away."""

    def __init__(self, *ended: UUID) -> None:
        self.ended = set(ended)
        self.is_away = False
        self.asked: list[UUID] = []

    async def check(self, session_id: UUID) -> None:
        self.asked.append(session_id)
        if self.is_away:
            raise DependencyUnavailable("session store")
        if session_id in self.ended:
            raise SessionEnded


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_session_is_looked_up_once() -> None:
    lookup = Lookup()
    living = LivingSessions(lookup)
    for _ in range(3):
        await living.require(ONE)
    assert lookup.asked == [ONE]
    assert living.known() == {ONE}


async def test_what_had_ended_before_is_refused_and_asked_about_once() -> None:
    lookup = Lookup(ONE)
    living = LivingSessions(lookup)
    for _ in range(3):
        with pytest.raises(SessionEnded):
            await living.require(ONE)
    assert lookup.asked == [ONE]
    assert living.known() == set()


async def test_what_is_heard_to_have_ended_is_refused_from_then_on() -> None:
    lookup = Lookup()
    living = LivingSessions(lookup)
    await living.require(ONE)
    await living.require(OTHER)
    living.end(ONE)
    lookup.is_away = True
    with pytest.raises(SessionEnded):
        await living.require(ONE)
    await living.require(OTHER)
    assert living.known() == {OTHER}


async def test_while_nobody_can_tell_it_is_let_in_and_looked_up_later() -> None:
    lookup, time = Lookup(ONE), Time()
    living = LivingSessions(lookup, monotonic=time)
    lookup.is_away = True
    for _ in range(5):
        await living.require(ONE)
    assert lookup.asked == [ONE]  # nobody waits for it again and again
    lookup.is_away, time.now = False, time.now + 1.1
    with pytest.raises(SessionEnded):
        await living.require(ONE)


async def test_both_are_forgotten_when_no_token_can_live_any_more() -> None:
    lookup, time = Lookup(), Time()
    living = LivingSessions(lookup, monotonic=time)
    await living.require(ONE)
    living.end(OTHER)
    time.now += 16 * 60 + 1
    assert living.known() == set()
    living.end(ONE)
    assert list(living._ended) == [ONE]


async def test_it_remembers_no_more_than_it_should_and_is_right_all_the_same() -> None:
    lookup = Lookup()
    living = LivingSessions(lookup, most=2)
    sessions = [uuid4() for _ in range(5)]
    for session in sessions:
        await living.require(session)
    assert living.known() == set(sessions[-2:])
    for session in sessions:
        lookup.ended.add(session)
        living.end(session)
    assert len(living._ended) == 2
    for session in sessions:
        with pytest.raises(SessionEnded):
            await living.require(session)


async def test_a_token_is_verified_before_its_session_is() -> None:
    identity = Identity(UserId(ONE), "free", "user", None, frozenset(), OTHER, 0, 0)

    class Verifier:
        async def verify(self, token: str) -> Identity:
            assert token == "a token"
            return identity

    lookup = Lookup()
    living = LivingSessions(lookup)
    verifier = VerifierOfTheLiving(Verifier(), living)
    assert await verifier.verify("a token") == identity
    living.end(OTHER)
    with pytest.raises(SessionEnded):
        await verifier.verify("a token")


async def test_a_personal_token_is_good_when_the_gateway_says_so() -> None:
    """It outlives what was issued for it: an account that is open again, a role that was lost."""
    program = Identity(
        UserId(uuid4()),
        "free",
        "member",
        None,
        frozenset({"chat"}),
        sign_in_id=ONE,
        expires_at=0,
        issued_at=0,
        methods=frozenset({"pat"}),
    )

    class Verifier:
        async def verify(self, token: str) -> Identity:
            return program

    lookup = Lookup(ONE)
    assert (
        await VerifierOfTheLiving(Verifier(), LivingSessions(lookup)).verify("a token") == program
    )
    assert not lookup.asked
