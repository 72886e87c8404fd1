"""What happens to a reservation on the real Valkey: settled or given back once, leased, seeded."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from shared.errors import DependencyUnavailable
from shared.limits import admission
from shared.limits.admission import (
    Admission,
    Admissions,
    LocalStreams,
    Spent,
    Window,
    day_window,
    minute_window,
    spend_window,
    streams_at_once,
)
from shared.limits.line import Line
from shared.valkey import open_cache
from tests.support.engines import ValkeyServer, running_valkey
from tests.support.waiting import eventually

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)
REQUESTS = minute_window("requests", 100, NOW)
TOKENS = minute_window("tokens", 1_000, NOW, 300)
STREAMS = streams_at_once(2, NOW)
STREAMS_KEY = "limit:{ada}:concurrent_streams"


def spending(cap: int, cost: int | None) -> Window:
    return spend_window("money", cap, NOW, cost)


async def nobody_asks() -> int:
    raise AssertionError("The counter is there; nobody should ask the database.")


class Books:
    """What the database knows, and how often it was asked."""

    def __init__(self, spent: int) -> None:
        self.spent = spent
        self.asked = 0

    async def __call__(self) -> int:
        self.asked += 1
        return self.spent


@pytest.fixture
async def cache(valkey_server: ValkeyServer) -> AsyncIterator[Redis]:
    with valkey_server.fresh_database() as url:
        cache = open_cache(url)
        yield cache
        await cache.aclose()


@pytest.fixture
def admissions(cache: Redis) -> Admissions:
    return Admissions(cache)


async def admit(
    admissions: Admissions,
    reservation: str,
    *windows: Window,
    streams: Window | None = STREAMS,
    spent: Spent | None = None,
    fallback_limit: int | None = None,
) -> Admission:
    return await admissions.admit(
        "ada",
        windows,
        reservation=reservation,
        claimed_tier="pro",
        streams=streams,
        spent=spent,
        fallback_limit=fallback_limit,
    )


async def used(admissions: Admissions, *windows: Window) -> list[tuple[int, int]]:
    """Used and reserved, of the windows and then of the streams."""
    states = await admissions.standing("ada", windows, STREAMS)
    return [(state.used, state.reserved) for state in states]


def refused(answer: Admission) -> str | None:
    return answer.refused.window.name if answer.refused else None


# Settling


@pytest.mark.parametrize("spoken", [0, 120, 300, 5_000])
async def test_what_was_used_takes_the_place_of_what_was_reserved(
    admissions: Admissions, spoken: int
) -> None:
    await admit(admissions, "1", REQUESTS, TOKENS)
    assert await used(admissions, REQUESTS, TOKENS) == [(1, 1), (300, 300), (1, 0)]
    await admissions.settle("ada", "1", [(TOKENS, spoken)])
    assert await used(admissions, REQUESTS, TOKENS) == [(1, 0), (spoken, 0), (0, 0)]


async def test_a_settlement_counts_once_however_often_it_is_told(
    admissions: Admissions, cache: Redis
) -> None:
    others = [Admissions(cache) for _ in range(3)]
    first = await admit(admissions, "1", REQUESTS, TOKENS)
    await admit(admissions, "2", REQUESTS, TOKENS)
    await asyncio.gather(*(a.settle("ada", "1", [(TOKENS, 10)]) for a in others * 4))
    await asyncio.gather(*(a.refund("ada", first) for a in others))
    assert await used(admissions, REQUESTS, TOKENS) == [(2, 1), (310, 300), (1, 0)]


async def test_what_was_given_back_is_not_settled(admissions: Admissions) -> None:
    first = await admit(admissions, "1", REQUESTS, TOKENS)
    await admissions.refund("ada", first)
    await admissions.settle("ada", "1", [(TOKENS, 900)])
    assert await used(admissions, REQUESTS, TOKENS) == [(0, 0), (0, 0), (0, 0)]


async def test_a_settlement_leaves_no_marker_behind(admissions: Admissions, cache: Redis) -> None:
    await admit(admissions, "1", REQUESTS)
    assert await cache.exists("reservation:{ada}:1")
    await admissions.settle("ada", "1", [])
    assert not await cache.exists("reservation:{ada}:1", STREAMS_KEY)


async def test_a_settlement_does_not_revive_a_window_that_is_over(
    admissions: Admissions, cache: Redis
) -> None:
    await admit(admissions, "1", TOKENS)
    await cache.delete(TOKENS.key("ada"))
    await admissions.settle("ada", "1", [(TOKENS, 10)])
    assert await cache.get(TOKENS.key("ada")) is None


async def test_usage_belongs_to_the_window_in_which_it_was_reserved(
    admissions: Admissions,
) -> None:
    later = minute_window("tokens", 1_000, NOW + timedelta(minutes=1), 300)
    await admit(admissions, "1", TOKENS)
    await admit(admissions, "2", later)
    await admissions.settle("ada", "1", [(TOKENS, 50)])
    assert await used(admissions, TOKENS, later) == [(50, 0), (300, 300), (1, 0)]


async def test_no_vendors_number_breaks_the_counters(admissions: Admissions) -> None:
    await admit(admissions, "1", TOKENS)
    await admissions.settle("ada", "1", [(TOKENS, 10**40)])
    await admit(admissions, "2", REQUESTS)
    await admissions.settle("ada", "2", [(TOKENS, -(10**40))])
    assert await used(admissions, TOKENS) == [(2**52, 0), (0, 0)]


# Streams


async def test_a_place_among_the_streams_is_free_when_the_stream_ends(
    admissions: Admissions,
) -> None:
    answers = [await admit(admissions, str(n), REQUESTS) for n in range(3)]
    assert [refused(answer) for answer in answers] == [None, None, "concurrent_streams"]
    assert [state.used for state in answers[2].states] == [2, 2]
    await admissions.settle("ada", "0", [])
    assert refused(await admit(admissions, "3", REQUESTS)) is None
    await admissions.refund("ada", answers[1])
    assert refused(await admit(admissions, "4", REQUESTS)) is None
    assert refused(await admit(admissions, "5", REQUESTS)) == "concurrent_streams"


async def test_a_place_among_the_streams_alone_is_given_back(admissions: Admissions) -> None:
    first = await admit(admissions, "1")
    assert await used(admissions) == [(1, 0)]
    await admissions.refund("ada", first)
    assert await used(admissions) == [(0, 0)]


async def test_a_call_that_is_repeated_is_told_what_runs(admissions: Admissions) -> None:
    await admit(admissions, "0", REQUESTS)
    answers = [await admit(admissions, "1", REQUESTS) for _ in range(2)]
    assert [[state.used for state in answer.states] for answer in answers] == [[2, 2], [2, 2]]


async def test_so_is_one_that_asks_for_a_place_among_the_streams_alone(
    admissions: Admissions,
) -> None:
    answers = [await admit(admissions, "1") for _ in range(2)]
    assert [[state.used for state in answer.states] for answer in answers] == [[1], [1]]


async def test_a_place_lasts_as_long_as_its_lease(admissions: Admissions, cache: Redis) -> None:
    await admit(admissions, "1", REQUESTS)
    assert 29_000 < await cache.pttl(STREAMS_KEY) <= 30_000


async def test_all_places_of_a_user_are_renewed(admissions: Admissions, cache: Redis) -> None:
    for id_ in ("1", "2"):
        await admit(admissions, id_, REQUESTS)
        await cache.zadd(STREAMS_KEY, {id_: 1})
    await admissions.renew({"ada": ["1", "2"]})
    assert await used(admissions) == [(2, 0)]


async def test_a_killed_replicas_places_come_back_and_those_that_are_renewed_stay(
    admissions: Admissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_LEASE_MILLISECONDS", 2_000)
    await admit(admissions, "lost", REQUESTS, TOKENS)
    await admit(admissions, "kept", REQUESTS)

    async def renewed() -> list[tuple[int, int]]:
        await admissions.renew({"ada": ["kept"], "grace": ["unknown"]})
        return await used(admissions, TOKENS)

    both = [(300, 300), (2, 0)]
    assert await renewed() == both
    # What is lost is held by nobody any more: it counts as used.
    assert await eventually(renewed, lambda seen: seen != both) == [(300, 0), (1, 0)]
    assert refused(await admit(admissions, "new", REQUESTS)) is None
    assert refused(await admit(admissions, "more", REQUESTS)) == "concurrent_streams"


async def test_a_late_renewal_does_not_bring_an_ended_stream_back(
    admissions: Admissions,
) -> None:
    first = await admit(admissions, "1", REQUESTS)
    await admit(admissions, "2", REQUESTS)
    await admissions.refund("ada", first)
    await admissions.settle("ada", "2", [])
    await admissions.renew({"ada": ["1", "2", "3"]})
    assert await used(admissions) == [(0, 0)]


@pytest.mark.parametrize("lost", [STREAMS_KEY, "everything"])
async def test_a_stream_that_was_forgotten_is_counted_again_while_it_runs(
    admissions: Admissions, cache: Redis, lost: str
) -> None:
    await admit(admissions, "1", REQUESTS)
    await (cache.flushdb() if lost == "everything" else cache.delete(lost))
    assert await used(admissions) == [(0, 0)]
    await admissions.renew({"ada": ["1"]})
    assert await used(admissions) == [(1, 0)]
    await admissions.settle("ada", "1", [(TOKENS, 5)])
    assert await used(admissions) == [(0, 0)]


async def test_a_replica_renews_what_it_runs_itself(admissions: Admissions, cache: Redis) -> None:
    await admit(admissions, "1", REQUESTS)
    await cache.delete(STREAMS_KEY)
    await Admissions(cache).renew({"ada": ["1"]})
    assert await used(admissions) == [(0, 0)]


async def test_renewal_keeps_the_marker_of_a_long_stream(
    admissions: Admissions, cache: Redis
) -> None:
    await admit(admissions, "1", REQUESTS)
    await cache.expire("reservation:{ada}:1", 5)
    await admissions.renew({"ada": ["1"]})
    assert await cache.ttl("reservation:{ada}:1") > 3_000
    assert 29_000 < await cache.pttl(STREAMS_KEY) <= 30_000


# Money


async def test_a_counter_that_is_missing_starts_from_what_the_database_knows(
    admissions: Admissions, cache: Redis
) -> None:
    books = Books(700)
    answer = await admit(admissions, "1", REQUESTS, spending(1_000, 200), spent=books)
    assert (refused(answer), [state.used for state in answer.states]) == (None, [1, 900, 1])
    await admissions.settle("ada", "1", [(spending(0, 0), 150)])
    books.spent += 150
    assert (await used(admissions, spending(1_000, 0)))[0] == (850, 0)
    assert await cache.ttl(spending(0, 0).key("ada")) > 14 * 86_400
    await cache.flushall()
    again = await admit(admissions, "2", REQUESTS, spending(1_000, 200), spent=books)
    assert refused(again) == "money"
    assert [(state.window.name, state.used) for state in again.states] == [
        ("requests", 0),
        ("money", 850),
        ("concurrent_streams", 0),
    ]
    assert books.asked == 2


async def test_the_first_who_ask_at_once_agree_on_the_start(admissions: Admissions) -> None:
    books = Books(500)
    answers = await asyncio.gather(
        *(
            admit(admissions, str(n), spending(1_000, 100), streams=None, spent=books)
            for n in range(20)
        )
    )
    assert sum(refused(answer) is None for answer in answers) == 5


async def test_the_database_is_not_asked_for_a_request_that_is_refused_anyhow(
    admissions: Admissions,
) -> None:
    full = minute_window("full", 0, NOW)
    answer = await admit(admissions, "1", full, spending(1_000, 1), spent=nobody_asks)
    assert refused(answer) == "full"
    assert [state.window.name for state in answer.states] == ["full", "concurrent_streams"]


async def test_the_database_out_of_reach_is_told_and_takes_nothing(
    admissions: Admissions,
) -> None:
    async def away() -> int:
        raise DependencyUnavailable("database")

    with pytest.raises(DependencyUnavailable, match="database"):
        await admit(admissions, "1", REQUESTS, spending(9, 1), spent=away, fallback_limit=5)
    assert await used(admissions, REQUESTS) == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("cap", "spent", "cost", "scope"),
    [
        (0, 0, 1, "money"),
        (0, 0, None, "money"),
        (100, 99, None, None),
        (100, 100, None, "money"),
        (100, 90, 10, None),
        (100, 90, 11, "money"),
    ],
)
async def test_a_cap_holds_for_known_and_unknown_costs(
    admissions: Admissions, cap: int, spent: int, cost: int | None, scope: str | None
) -> None:
    answer = await admit(admissions, "1", spending(cap, cost), spent=Books(spent))
    assert refused(answer) == scope
    left = spent if scope or cost is None else spent + cost
    assert (await used(admissions, spending(cap, 0)))[0][0] == left


async def test_spending_without_a_cap_is_added_to_a_counter_that_is_there(
    admissions: Admissions,
) -> None:
    await admit(admissions, "uncapped", REQUESTS)
    await admissions.settle("ada", "uncapped", [(spending(0, 0), 70)])
    assert await used(admissions, spending(9, 0)) == [(0, 0)]  # nothing is counted, nobody asks
    await admit(admissions, "running", REQUESTS)
    await admit(admissions, "capped", spending(1_000, 5), spent=Books(70))
    for _ in range(2):
        await admissions.settle("ada", "running", [(spending(0, 0), 30)])
    assert (await used(admissions, spending(1_000, 0)))[0] == (105, 5)


# Trouble


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that the test may stop."""
    with running_valkey(tmp_path) as server:
        yield server


@pytest.fixture
async def own_admissions(
    own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Admissions]:
    monkeypatch.setattr(admission, "_OPEN_SECONDS", 0.0)
    cache = open_cache(own_valkey.url)
    yield Admissions(cache)
    await cache.aclose()


class CutOff:
    """A replica that settles while no answer comes to it."""

    def __init__(self, admissions: Admissions, cache: Redis) -> None:
        self._admissions = admissions
        self._near, self._far = Line(cache.connection_pool, timeout=1), admissions._line

    async def settle(
        self, reservation: str, *used: tuple[Window, int], locally: bool = True
    ) -> None:
        await self._admissions.settle("ada", reservation, used, locally=locally)
        assert self._admissions._untold

    async def is_back(self) -> None:
        self._admissions._line, self._admissions._closed_until = self._near, 0.0
        await self._admissions.renew({})
        assert not self._admissions._untold

    def goes(self) -> None:
        self._admissions._line = self._far


async def admitted_without_valkey(
    admissions: Admissions, ids: Sequence[str], *windows: Window, spent: Spent = nobody_asks
) -> list[str]:
    """Which of them get in."""
    taken = []
    for id_ in ids:
        try:
            answer = await admit(admissions, id_, *windows, spent=spent, fallback_limit=100)
        except DependencyUnavailable:
            continue
        assert answer.states == ()
        if answer.refused is None:
            taken.append(id_)
    return taken


async def test_without_valkey_streams_and_money_are_bounded_too(
    own_valkey: ValkeyServer, own_admissions: Admissions
) -> None:
    own_valkey.child.kill()
    assert await admitted_without_valkey(own_admissions, "abc", REQUESTS) == ["a", "b"]
    await own_admissions.renew({"ada": ["a", "b"]})
    await own_admissions.settle("ada", "a", [(TOKENS, 5)], locally=True)
    assert await admitted_without_valkey(own_admissions, "de", REQUESTS) == ["d"]
    await own_admissions.refund("ada", Admission("d", (), locally=(REQUESTS,)))
    full, open_ = spending(100, 31), spending(100, 30)
    assert await admitted_without_valkey(own_admissions, "f", full, spent=Books(70)) == []
    assert await admitted_without_valkey(own_admissions, "f", open_, spent=Books(70)) == ["f"]
    answer = await admit(own_admissions, "g", full, spent=Books(70), fallback_limit=5)
    assert refused(answer) == "money"


async def test_what_could_not_be_told_is_told_when_valkey_is_back(
    own_valkey: ValkeyServer, own_admissions: Admissions
) -> None:
    money = spending(1_000, 100)
    await admit(own_admissions, "1", REQUESTS, TOKENS, money, spent=Books(0))
    second = await admit(own_admissions, "2", REQUESTS, TOKENS)
    os.kill(own_valkey.child.pid, signal.SIGSTOP)
    try:
        assert await admitted_without_valkey(own_admissions, "x") == []  # both places are taken
        await own_admissions.settle("ada", "1", [(TOKENS, 10), (money, 60)])
        await own_admissions.refund("ada", second)
        await own_admissions.settle("ada", "y", [(TOKENS, 1), (money, 5)], locally=True)
    finally:
        os.kill(own_valkey.child.pid, signal.SIGCONT)
    await own_admissions.renew({"ada": ["1"]})
    # The money is asked of the database again: whether the counter had y's, nobody knows.
    expected = [(1, 0), (11, 0), (0, 0)]
    assert await used(own_admissions, REQUESTS, TOKENS, money) == expected
    # One that was let in without Valkey counts once as well.
    await admit(own_admissions, "2", money, spent=Books(65))
    await own_admissions.settle("ada", "y", [(TOKENS, 1), (money, 5)], locally=True)
    expected = [(1, 0), (11, 0), (165, 100), (1, 0)]
    assert await used(own_admissions, REQUESTS, TOKENS, money) == expected


@pytest.fixture
async def cut_off(admissions: Admissions, cache: Redis) -> AsyncIterator[CutOff]:
    """Another replica, which Valkey does not answer for now."""
    nowhere = open_cache("redis://127.0.0.1:1/0")
    yield CutOff(Admissions(nowhere), cache)
    await nowhere.aclose()


async def test_what_was_settled_without_valkey_is_not_counted_twice_after_a_loss(
    admissions: Admissions, cut_off: CutOff
) -> None:
    books, money = Books(700), spending(1_000, 50)
    await cut_off.settle("far", (money, 100))
    books.spent += 100
    await admit(admissions, "near", money, spent=books)
    await admissions.settle("ada", "near", [(money, 20)])
    books.spent += 20
    assert (await used(admissions, money))[0] == (820, 0)
    await cut_off.is_back()
    await admit(admissions, "next", money, spent=books)
    assert (await used(admissions, money))[0] == (870, 50)
    assert books.asked == 2


@pytest.mark.parametrize("ending", ["settled", "given back", "settled late"])
async def test_who_ran_while_a_counter_was_filled_anew_counts_once(
    admissions: Admissions, cut_off: CutOff, cache: Redis, ending: str
) -> None:
    books, money = Books(100), spending(1_000, 50)
    running = await admit(admissions, "running", TOKENS, money, spent=books)
    await cut_off.settle("far", (money, 7))
    books.spent += 7
    counted_for = await cache.ttl(money.key("ada"))
    await cut_off.is_back()
    # Every marker of who held something in the counter that was dropped is gone by then.
    assert await cache.ttl(f"{money.key('ada')}:dropped") > counted_for + 3_000
    # One who came after that holds a place in the new counter, as ever.
    await admit(admissions, "after", money, spent=books)
    assert (await used(admissions, money))[0][0] == 157
    if ending == "given back":
        await admissions.refund("ada", running)
    else:
        if ending == "settled late":
            cut_off.goes()
            await cut_off.settle("running", (TOKENS, 5), (money, 30), locally=False)
            await cut_off.is_back()
        else:
            await admissions.settle("ada", "running", [(TOKENS, 5), (money, 30)])
        books.spent += 30
    await admissions.settle("ada", "after", [(money, 1)])
    books.spent += 1
    await admit(admissions, "last", spending(1_000, 0), spent=books)
    tokens = 0 if ending == "given back" else 5
    assert await used(admissions, TOKENS, money) == [(tokens, 0), (books.spent, 0), (1, 0)]
    assert books.asked == (3 if ending == "settled late" else 2)


async def test_who_held_money_alone_while_a_counter_was_filled_anew_counts_once(
    admissions: Admissions, cut_off: CutOff
) -> None:
    books, money = Books(100), spending(1_000, 50)
    await admit(admissions, "running", money, spent=books)
    await cut_off.settle("far", (money, 7))
    books.spent += 7
    await cut_off.is_back()
    await admit(admissions, "after", money, spent=books)
    for id_, cost in (("running", 30), ("after", 1)):
        await admissions.settle("ada", id_, [(money, cost)])
        books.spent += cost
    assert (await used(admissions, money))[0] == (books.spent, 0)


async def test_what_is_settled_late_and_held_there_drops_no_counter(
    admissions: Admissions, cut_off: CutOff
) -> None:
    books, money = Books(100), spending(1_000, 50)
    for id_ in ("late", "running"):
        await admit(admissions, id_, money, spent=books)
    await cut_off.settle("late", (money, 7), locally=False)
    await cut_off.is_back()
    assert (await used(admissions, money))[0] == (157, 50)


async def test_that_something_was_settled_is_not_remembered_for_ever(
    admissions: Admissions, cut_off: CutOff, cache: Redis
) -> None:
    await cut_off.settle("far", (TOKENS, 7))
    await cut_off.is_back()
    assert 3_000 < await cache.ttl("reservation:{ada}:far") <= 3_600


async def test_who_came_after_a_counter_was_filled_anew_gives_back_what_they_held(
    admissions: Admissions, cut_off: CutOff
) -> None:
    books, money = Books(107), spending(1_000, 50)
    await admit(admissions, "before", money, spent=books)
    await cut_off.settle("far", (money, 7))
    await cut_off.is_back()
    after = await admit(admissions, "after", money, spent=books)
    await admissions.refund("ada", after)
    assert (await used(admissions, money))[0][0] == 107


@pytest.mark.parametrize("ending", ["refused", "settled", "given back"])
async def test_what_valkey_does_after_nobody_waits_any_more_is_not_counted_twice(
    own_valkey: ValkeyServer, own_admissions: Admissions, ending: str
) -> None:
    money = spending(1_000, 100)
    fallback = None if ending == "refused" else 100
    await admit(own_admissions, "0", REQUESTS, TOKENS, money, spent=Books(0))
    await own_admissions.settle("ada", "0", [(TOKENS, 0), (money, 0)])
    os.kill(own_valkey.child.pid, signal.SIGSTOP)
    asking = admit(
        own_admissions, "1", REQUESTS, TOKENS, money, spent=Books(0), fallback_limit=fallback
    )
    try:
        if ending == "refused":
            with pytest.raises(DependencyUnavailable):
                await asking
        else:
            answer = await asking
    finally:
        os.kill(own_valkey.child.pid, signal.SIGCONT)
    # It is carried out now, although its answer goes nowhere.
    expected = [(2, 1), (300, 300), (100, 100), (1, 0)]
    assert await used(own_admissions, REQUESTS, TOKENS, money) == expected
    if ending == "refused":
        await own_admissions.renew({})
    for _ in range(2):
        if ending == "settled":
            await own_admissions.settle("ada", "1", [(TOKENS, 10), (money, 7)], locally=True)
        elif ending == "given back":
            await own_admissions.refund("ada", answer)
    left = [(2, 0), (10, 0), (7, 0), (0, 0)] if ending == "settled" else [(1, 0), (0, 0), (0, 0)]
    assert (await used(own_admissions, REQUESTS, TOKENS, money))[: len(left)] == left
    if ending == "settled":
        await own_admissions.refund("ada", answer)
        assert await used(own_admissions, REQUESTS, TOKENS, money) == left


async def test_of_many_only_one_waits_to_learn_whether_valkey_is_back(
    own_valkey: ValkeyServer, own_admissions: Admissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_OPEN_SECONDS", 600.0)
    await admit(own_admissions, "0", REQUESTS, streams=None)

    asked: list[bytes] = []
    ask = Line.ask

    async def counted(line: Line, command: bytes) -> object:
        asked.append(command)
        return await ask(line, command)

    monkeypatch.setattr(Line, "ask", counted)

    async def waiting(*ids: str) -> int:
        """How many of these asked Valkey, all of whom are refused."""
        before = len(asked)
        for end in await asyncio.gather(
            *(admit(own_admissions, id_, REQUESTS, streams=None) for id_ in ids),
            return_exceptions=True,
        ):
            assert isinstance(end, DependencyUnavailable)
        return len(asked) - before

    os.kill(own_valkey.child.pid, signal.SIGSTOP)
    try:
        assert await waiting("first") == 1
        assert await waiting(*map(str, range(20))) == 0
        own_admissions._closed_until = time.monotonic()  # the time is over
        assert await waiting(*map(str, range(20))) == 1
    finally:
        os.kill(own_valkey.child.pid, signal.SIGCONT)
    own_admissions._closed_until = time.monotonic()
    assert refused(await admit(own_admissions, "1", REQUESTS, streams=None)) is None
    assert refused(await admit(own_admissions, "2", REQUESTS, streams=None)) is None


async def test_who_stops_waiting_takes_nothing_and_disturbs_nobody(
    own_valkey: ValkeyServer, own_admissions: Admissions
) -> None:
    await admit(own_admissions, "0", REQUESTS)
    await own_admissions.settle("ada", "0", [])
    os.kill(own_valkey.child.pid, signal.SIGSTOP)
    leaving = asyncio.create_task(admit(own_admissions, "1", REQUESTS, TOKENS))
    staying = asyncio.create_task(admit(own_admissions, "2", REQUESTS))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.sleep(0.01)
    os.kill(own_valkey.child.pid, signal.SIGCONT)
    assert refused(await staying) is None
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await used(own_admissions, REQUESTS, TOKENS) == [(2, 1), (0, 0), (1, 0)]


async def test_a_connection_that_was_cut_is_replaced_within_the_call(
    admissions: Admissions, cache: Redis
) -> None:
    for number in range(3):
        answers = await asyncio.gather(
            *(admit(admissions, f"{number}-{n}", REQUESTS, streams=None) for n in range(10))
        )
        assert [refused(answer) for answer in answers] == [None] * 10
        await cache.client_kill_filter(_type="normal", skipme=True)
    assert (await used(admissions, REQUESTS))[0] == (30, 0)


# Keys


async def test_all_keys_of_a_user_are_on_one_node_of_a_cluster(
    admissions: Admissions, cache: Redis
) -> None:
    money = spending(1_000, 5)
    windows = [REQUESTS, TOKENS, day_window("requests_a_day", 5, NOW), money]
    await admit(admissions, "1", *windows, spent=Books(0))
    keys = [key for key in await cache.keys() if isinstance(key, bytes)]
    assert len(keys) == len(windows) + 2
    assert {key_slot(key) for key in keys} == {key_slot(b"ada")}
    assert all([await cache.ttl(key) > 0 for key in keys])


def test_a_local_place_that_is_not_renewed_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    local, now = LocalStreams(30), [100.0]
    monkeypatch.setattr("shared.limits.local.time.monotonic", lambda: now[0])
    local.enter("ada", "1")
    local.enter("ada", "2")
    now[0] = 120.0
    assert local.renew("ada", ["2", "unknown"]) == ["2"]
    assert local.renew("grace", ["1"]) == []
    assert not local.has_place("ada", 2)
    assert local.has_place("grace", 1)
    now[0] = 131.0
    assert local.has_place("ada", 2)
    assert not local.has_place("ada", 1)
    local.leave("ada", "2")
    assert local.has_place("ada", 1)
