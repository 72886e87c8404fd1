"""What is asked at the same time goes together, and yet each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from shared.db.together import Together
from shared.errors import DependencyUnavailable


class Wrong(Exception):
    """What comes of a bad question."""


@dataclass
class Server:
    """Answers when it is let; remembers who was asked with whom."""

    asked: list[list[str]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    stalls: set[str] = field(default_factory=set)
    stuck_alone: str | None = None
    left: list[str] = field(default_factory=list)
    is_away: bool = False
    does_nothing: bool = False
    answers_too_few: bool = False

    def __post_init__(self) -> None:
        self.ask = Together(self.alone, self.all, most=5, patience_seconds=30)

    async def alone(self, question: str) -> str:
        self.asked.append([question])
        if question == self.stuck_alone:
            try:
                await asyncio.Event().wait()
            finally:
                self.left.append(question)
        await self._wait([question])
        if question.startswith("bad"):
            raise Wrong(question)
        return question.upper()

    async def all(self, questions: Sequence[str]) -> Sequence[str]:
        self.asked.append(list(questions))
        await self._wait(questions)
        if any(question.startswith("bad") for question in questions):
            raise Wrong("one of them")
        return [question.upper() for question in questions][int(self.answers_too_few) :]

    async def _wait(self, questions: Sequence[str]) -> None:
        if self.stalls & set(questions):
            await asyncio.Event().wait()
        await self.open.wait()
        if self.is_away:
            raise DependencyUnavailable("database", did_nothing=self.does_nothing)

    async def begin(self, *questions: str) -> list[asyncio.Task[str]]:
        """Ask them, and let what can go, go."""
        tasks = [asyncio.create_task(self.ask(question)) for question in questions]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks


@pytest.fixture
async def server() -> Server:
    return Server()


async def answers(tasks: Sequence[asyncio.Task[str]]) -> list[str | BaseException]:
    async with asyncio.timeout(5):
        return list(await asyncio.gather(*tasks, return_exceptions=True))


async def test_nobody_waits_while_little_is_under_way(server: Server) -> None:
    tasks = await server.begin("a", "b")
    assert server.asked == [["a"], ["b"]]
    server.open.set()
    assert await answers(tasks) == ["A", "B"]
    assert await server.ask("c") == "C"


async def test_those_who_come_meanwhile_go_together_and_each_gets_its_own_answer(
    server: Server,
) -> None:
    tasks = await server.begin("a", "b", "c", "d", "e")
    assert server.asked == [["a"], ["b"]]
    server.open.set()
    assert await answers(tasks) == ["A", "B", "C", "D", "E"]
    assert server.asked[2:] == [["c", "d", "e"]]


async def test_in_a_crowd_one_is_under_way(server: Server) -> None:
    server.open.set()
    for number in range(60):
        await server.ask(str(number))
    server.open.clear()
    server.asked.clear()
    tasks = await server.begin("a", "b", "c")
    assert server.asked == [["a"]]
    server.open.set()
    assert await answers(tasks) == ["A", "B", "C"]
    assert server.asked[1:] == [["b", "c"]]


async def test_when_it_grows_crowded_those_under_way_become_one(server: Server) -> None:
    server.ask = Together(server.alone, server.all, most=100, patience_seconds=30)
    tasks = await server.begin("a", "b", *map(str, range(60)))
    assert server.asked == [["a"], ["b"]]
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    await asyncio.sleep(0)
    assert server.asked == [["a"], ["b"]]
    server.open.set()
    assert (await answers(tasks))[1:] == ["B", *map(str, range(60))]
    assert server.asked[2:] == [list(map(str, range(60)))]


async def test_a_crowd_is_over_once_they_come_seldom(server: Server) -> None:
    server.open.set()
    now = 100.0
    server.ask = Together(server.alone, server.all, now=lambda: now)
    for _ in range(60):
        await server.ask("x")
    now += 0.5
    await server.ask("x")
    server.open.clear()
    server.asked.clear()
    tasks = await server.begin("a", "b", "c")
    assert server.asked == [["a"], ["b"]]
    server.open.set()
    assert await answers(tasks) == ["A", "B", "C"]


async def test_one_that_fails_fails_for_itself(server: Server) -> None:
    tasks = await server.begin("a", "b", "c", "bad-1", "d", "bad-2")
    server.open.set()
    found = await answers(tasks)
    assert [found[place] for place in (0, 1, 2, 4)] == ["A", "B", "C", "D"]
    assert [str(found[place]) for place in (3, 5)] == ["bad-1", "bad-2"]
    assert server.asked[2:] == [["c", "bad-1", "d", "bad-2"], ["c"], ["bad-1"], ["d"], ["bad-2"]]


async def test_what_answers_too_few_is_not_believed(server: Server) -> None:
    server.answers_too_few = True
    tasks = await server.begin("a", "b", "c", "d")
    server.open.set()
    assert await answers(tasks) == ["A", "B", "C", "D"]


@pytest.mark.parametrize("does_nothing", [False, True])
async def test_a_dependency_that_is_away_is_the_answer_to_all_at_once(
    server: Server, does_nothing: bool
) -> None:
    tasks = await server.begin("a", "b", "c", "d")
    server.is_away, server.does_nothing = True, does_nothing
    server.open.set()
    found = await answers(tasks)
    assert [type(failure) for failure in found] == [DependencyUnavailable] * 4
    assert [f.did_nothing for f in found if isinstance(f, DependencyUnavailable)] == [
        does_nothing
    ] * 4
    assert found[2] is not found[3]  # each is told, and traced, by itself
    assert server.asked == [["a"], ["b"], ["c", "d"]]


async def test_who_gives_up_before_is_not_asked_for(server: Server) -> None:
    tasks = await server.begin("a", "b", "c", "d", "e")
    tasks[3].cancel()
    server.open.set()
    found = await answers(tasks)
    assert [found[place] for place in (0, 1, 2, 4)] == ["A", "B", "C", "E"]
    assert server.asked[2:] == [["c", "e"]]


async def test_who_gives_up_on_the_way_takes_nobody_along(server: Server) -> None:
    first = await server.begin("a", "b")
    company = await server.begin("c", "d", "e")
    server.stalls |= {"c"}
    first[0].cancel()
    await asyncio.gather(first[0], return_exceptions=True)
    await asyncio.sleep(0)
    assert server.asked[2:] == [["c", "d", "e"]]
    company[0].cancel()
    server.open.set()
    assert await first[1] == "B"
    assert not company[1].done()  # they are on one statement, which goes on
    later = await server.begin("f")
    assert await answers(later) == ["F"]
    for task in company:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await answers(company))


async def test_an_answer_that_nobody_waits_for_any_more_harms_nothing(server: Server) -> None:
    first = await server.begin("a", "b")
    company = await server.begin("c", "d", "bad")
    first[0].cancel()
    await asyncio.gather(first[0], return_exceptions=True)
    await asyncio.sleep(0)
    for task in company:
        task.cancel()
    await asyncio.sleep(0)
    server.open.set()
    await answers([*first, *company])
    assert await server.ask("e") == "E"


@pytest.mark.parametrize("names", [["c"], ["c", "bad", "d"]])
async def test_what_is_asked_alone_ends_with_who_gives_up(server: Server, names: list[str]) -> None:
    server.stuck_alone = "c"
    first = await server.begin("a", "b")
    company = await server.begin(*names)
    server.open.set()
    assert await answers(first) == ["A", "B"]
    async with asyncio.timeout(5):
        while ["c"] not in server.asked:
            await asyncio.sleep(0)
    company[0].cancel()
    found = await answers(company)
    assert [type(each) for each in found] == [asyncio.CancelledError, Wrong, str][: len(names)]
    async with asyncio.timeout(5):
        while server.ask._flights:
            await asyncio.sleep(0)
    assert server.left == ["c"]


async def test_who_is_first_and_gives_up_lets_the_others_go(server: Server) -> None:
    tasks = await server.begin("a", "b", "c", "d")
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    await asyncio.sleep(0)
    assert server.asked[2:] == [["c", "d"]]
    server.open.set()
    assert (await answers(tasks))[1:] == ["B", "C", "D"]


async def test_a_full_company_leaves_at_once(server: Server) -> None:
    tasks = await server.begin(*"abcdefgh")
    assert server.asked == [["a"], ["b"], ["c", "d", "e", "f", "g"]]
    server.open.set()
    assert await answers(tasks) == list("ABCDEFGH")


async def test_one_that_hangs_keeps_the_others_for_a_moment_and_the_next_not_at_all(
    server: Server,
) -> None:
    server.ask = Together(server.alone, server.all, patience_seconds=0.01)
    server.open.set()
    server.stalls |= {"a", "b"}
    hanging = await server.begin("a", "b")
    assert await answers(await server.begin("c", "d")) == ["C", "D"]
    assert server.asked[2:] == [["c", "d"]]
    next_ones = await server.begin("e")
    assert server.asked[3:] == [["e"]]
    assert await answers(next_ones) == ["E"]
    # What was waited for no more counts no more when it ends, either.
    for task in hanging:
        task.cancel()
    await answers(hanging)
    server.stalls.clear()
    server.open.clear()
    tasks = await server.begin("f", "g", "h")
    assert server.asked[4:] == [["f"], ["g"]]
    server.open.set()
    assert await answers(tasks) == ["F", "G", "H"]


async def test_when_all_ends_nobody_hangs(server: Server) -> None:
    first = await server.begin("a", "b")
    company = await server.begin("c", "d")
    first[0].cancel()
    await asyncio.gather(first[0], return_exceptions=True)
    (flight,) = server.ask._flights
    await asyncio.sleep(0)
    flight.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await answers(company))
    server.open.set()
    assert await first[1] == "B"
