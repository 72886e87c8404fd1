"""A place in the limits and a hold: both or none, whatever comes in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from services.chat.actions.open_turn import Opening, OpenTurn
from services.chat.actions.withdraw_hold import WithdrawHold
from services.chat.domain.conversation import MessageId
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.ports import Asked, Quote
from services.chat.domain.turn import Hold, Outcome, Surface
from services.chat.domain.usage import Usage
from services.chat.wiring import quote
from shared import withdrawals
from shared.errors import DependencyUnavailable
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.ids import UserId, first_id_at
from shared.tiers import TIERS
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, ada
from tests.support.tasks import tasks_of

OPENING = Opening(
    by=OnBehalfOf(ada, "request-1", "token", UUID(int=9)),
    tier=TIERS["pro"],
    choice=ModelChoice("openai", "gpt-6-luna", 1_000),
    input_estimate=10,
    cap_microusd=None,
    surface=Surface.V1,
    idempotency_key="once",
    request_hash=b"hash",
)


@dataclass
class LateTurns(MemoryTurns):
    """Writes a hold when it is told to, whether or not somebody waits for that."""

    asked_to_write: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        super().__init__()
        self.unwritten: list[Hold] = []

    async def hold(self, hold: Hold, question: Asked | None, *, sandbox: bool) -> bool:
        self.unwritten.append(hold)
        self.asked_to_write.set()
        await asyncio.Event().wait()
        return True

    def write(self) -> None:
        self.holds.update({hold.id: hold for hold in self.unwritten})


class LostTurns(MemoryTurns):
    """Writes the hold and loses the answer."""

    async def hold(self, hold: Hold, question: Asked | None, *, sandbox: bool) -> bool:
        await super().hold(hold, question, sandbox=sandbox)
        raise DependencyUnavailable("database")


async def withdrawn(open_turn: OpenTurn) -> None:
    """Once it has seen to what it left."""
    await asyncio.sleep(0.005)
    await open_turn.withdraw.drained(60)


def is_refused(desk: Desk) -> bool:
    """Nothing is held and nothing is charged."""
    return desk.outcome is Outcome.REFUSED and desk.turns.facts == []


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawals, "_WRITTEN_AFTER_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(withdrawals, "_PACE_SECONDS", 0.005)


async def test_whoever_goes_while_it_is_held_leaves_no_hold() -> None:
    turns = LateTurns()
    desk = Desk(turns, ScriptedProvider())
    open_turn = desk.open
    opening = asyncio.create_task(open_turn(OPENING))
    await turns.asked_to_write.wait()

    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert desk.admission.reservations[0].refunds == 1
    turns.write()
    await withdrawn(open_turn)

    assert is_refused(desk)


async def test_nor_when_it_is_written_a_while_later(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = LateTurns()
    settle, looks = turns.settle, 0

    async def only_what_is_there(hold: Hold, *parts: object) -> bool:
        nonlocal looks
        looks += 1
        if hold.id in turns.holds:
            return await settle(hold, *parts)  # type: ignore[arg-type]
        turns.write()
        return False

    monkeypatch.setattr(turns, "settle", only_what_is_there)
    desk = Desk(turns, ScriptedProvider())
    open_turn = desk.open
    opening = asyncio.create_task(open_turn(OPENING))
    await turns.asked_to_write.wait()
    opening.cancel()
    await withdrawn(open_turn)

    assert (looks, is_refused(desk)) == (2, True)


async def test_a_hold_whose_answer_was_lost_is_withdrawn() -> None:
    desk = Desk(LostTurns(), ScriptedProvider())
    open_turn = desk.open
    with pytest.raises(DependencyUnavailable):
        await open_turn(OPENING)
    assert desk.admission.reservations[0].refunds == 1
    await withdrawn(open_turn)
    assert is_refused(desk)
    # The same key may try again.
    assert await desk.turns.earlier(ada, "once") is None


async def test_while_the_database_is_away_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawals, "_LONGEST_WAIT_SECONDS", 0.002)
    desk = Desk(LostTurns(), ScriptedProvider())
    desk.turns.failing = 30
    open_turn = desk.open
    with pytest.raises(DependencyUnavailable):
        await open_turn(OPENING)
    await withdrawn(open_turn)
    assert is_refused(desk)
    assert desk.admission.reservations[0].refunds == 1


async def test_while_it_is_away_it_is_asked_by_one_and_not_by_each_who_was_let_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(withdrawals, "_LONGEST_WAIT_SECONDS", 0.02)
    desk = Desk(LostTurns(), ScriptedProvider())
    desk.turns.failing = 1_000
    open_turn = desk.open
    before, began = tasks_of(withdrawals), time.monotonic()
    for number in range(50):
        with pytest.raises(DependencyUnavailable):
            await open_turn(replace(OPENING, idempotency_key=str(number)))
    assert len(tasks_of(withdrawals) - before) == 1
    await asyncio.sleep(0.1)
    # At its own pace, however long all that took.
    most = 5 + (time.monotonic() - began) / withdrawals._LONGEST_WAIT_SECONDS
    assert 1 <= 1_000 - desk.turns.failing <= most

    desk.turns.failing = 0
    await withdrawn(open_turn)
    assert {s.outcome for s in desk.turns.settled.values()} == {Outcome.REFUSED}
    assert len(desk.turns.settled) == 50


async def test_a_replica_that_leaves_takes_back_what_it_left_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(withdrawals, "_PACE_SECONDS", 0.05)
    desk = Desk(LostTurns(), ScriptedProvider())
    open_turn = desk.open
    with pytest.raises(DependencyUnavailable):
        await open_turn(OPENING)
    assert desk.turns.settled == {}
    await open_turn.withdraw.drained(2)
    assert is_refused(desk)
    await open_turn.withdraw.drained(2)  # nothing is left to wait for


async def test_nor_does_it_wait_for_ever_for_a_database_that_is_away() -> None:
    desk = Desk(LostTurns(), ScriptedProvider())
    desk.turns.failing = 1_000
    open_turn = desk.open
    for number in range(2):
        with pytest.raises(DependencyUnavailable):
            await open_turn(replace(OPENING, idempotency_key=str(number)))
    with capture_logs() as logs:
        await open_turn.withdraw.drained(0.02)
    assert logs == [
        {"event": "holds_left_unwithdrawn", "holds": 2, "log_level": "warning"},
    ]
    assert open_turn.withdraw.work is None


async def test_no_more_wait_for_that_than_are_soon_done(monkeypatch: pytest.MonkeyPatch) -> None:
    # None is looked for before all are left.
    monkeypatch.setattr(withdrawals, "_WRITTEN_AFTER_SECONDS", (1.0,))
    desk = Desk(LostTurns(), ScriptedProvider())
    open_turn = replace(desk.open, withdraw=WithdrawHold(desk.turns, most=2))
    for number in range(5):
        with pytest.raises(DependencyUnavailable):
            await open_turn(replace(OPENING, idempotency_key=str(number)))
    await withdrawn(open_turn)
    # A lease that nobody renews ends by itself.
    assert list(desk.turns.settled) == list(desk.turns.holds)[:2]


async def test_one_that_can_not_be_withdrawn_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(withdrawals, "_LONGEST_WAIT_SECONDS", 0.002)
    desk = Desk(LostTurns(), ScriptedProvider())
    open_turn, settle = desk.open, desk.turns.settle

    async def only_others(hold: Hold, *parts: object) -> bool:
        broken, *behind = desk.turns.holds
        if hold.id == broken:
            raise ZeroDivisionError
        if hold.id == behind[0] and len(desk.turns.settled) < 2:
            raise DependencyUnavailable("database")
        return await settle(hold, *parts)  # type: ignore[arg-type]

    # Before the first is left: on a busy machine it may be looked for while the next one is opened.
    monkeypatch.setattr(desk.turns, "settle", only_others)
    for number in range(4):
        with pytest.raises(DependencyUnavailable):
            await open_turn(replace(OPENING, idempotency_key=str(number)))
    await withdrawn(open_turn)
    _broken, locked, *others = desk.turns.holds
    assert list(desk.turns.settled) == [*others, locked]


async def test_what_is_known_not_to_be_written_is_not_withdrawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())

    async def hold(*_: object, **__: object) -> bool:
        raise DependencyUnavailable("database", did_nothing=True)

    monkeypatch.setattr(desk.turns, "hold", hold)
    open_turn = desk.open
    with pytest.raises(DependencyUnavailable):
        await open_turn(OPENING)
    assert open_turn.withdraw.work is None
    assert desk.admission.reservations[0].refunds == 1


async def test_what_the_storage_declines_is_not_there() -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())
    await desk.open(OPENING)
    open_turn = desk.open
    with pytest.raises(RequestInProgress):
        await open_turn(OPENING)
    assert open_turn.withdraw.work is None
    assert [r.refunds for r in desk.admission.reservations] == [0, 1]


async def test_a_place_is_asked_for_the_longest_answer_and_within_the_users_cap() -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())
    await desk.open(OPENING)
    await desk.open(replace(OPENING, idempotency_key=None, cap_microusd=500))
    asked = [(r.tokens, r.cap_microusd, r.cost_microusd) for r in desk.admission.requests]
    assert asked == [(1_010, None, None), (1_010, 500, 7)]


async def test_a_hold_has_its_lease_and_is_known_by_its_key_alone() -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider())
    keyed = (await desk.open(OPENING)).hold
    plain = (await desk.open(replace(OPENING, idempotency_key=None))).hold
    assert keyed.lease_expires_at == desk.clock.now() + timedelta(seconds=30)
    assert (keyed.request_hash, plain.request_hash) == (b"hash", None)
    with pytest.raises(RequestInProgress):
        await desk.open.earlier(ada, "once", b"hash")
    with pytest.raises(IdempotencyKeyReused):
        await desk.open.earlier(ada, "once", b"another")
    assert await desk.open.earlier(ada, "twice", b"hash") is None


async def test_what_it_may_cost_is_that_of_the_longest_answer() -> None:
    asked: list[Usage] = []

    def price(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
        asked.append(usage)
        return None

    desk = Desk(MemoryTurns(), ScriptedProvider(), price=price)
    await desk.open(replace(OPENING, cap_microusd=500))
    assert asked == [Usage(input_tokens=10, cache_write_tokens=10, output_tokens=1_000)]


@pytest.mark.parametrize(
    ("provider", "model", "more"),
    [
        ("openai", "gpt-6-luna", 25),
        ("anthropic", "claude-opus-5-5", 1_000),
        ("gemini", "gemini-3.8-flash", 0),  # where writing costs no more than reading
    ],
)
async def test_a_prompt_that_is_written_to_the_vendors_cache_fits_under_the_cap(
    provider: str, model: str, more: int
) -> None:
    desk = Desk(MemoryTurns(), ScriptedProvider(), price=quote)
    choice = ModelChoice(provider, model, 1_000)
    await desk.open(replace(OPENING, choice=choice, cap_microusd=500, input_estimate=1_000))
    unwritten = Usage(input_tokens=1_000, output_tokens=1_000)
    plain = quote(provider, model, unwritten, desk.clock.now())
    assert plain is not None
    assert [r.cost_microusd for r in desk.admission.requests] == [plain.cost_microusd + more]


async def test_an_answer_is_told_again_though_nobody_can_tell_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_parts: object, **_more: object) -> None:
        raise DependencyUnavailable("cache")

    desk = Desk(MemoryTurns(), ScriptedProvider())
    monkeypatch.setattr(desk.admission, "states", away)
    assert await desk.open.limits_at(ada, TIERS["pro"], "openai") == ()


async def test_what_was_spent_counts_from_the_months_first_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, asked = Desk(MemoryTurns(), ScriptedProvider()), list[datetime]()
    admit = desk.admission.admit

    async def spent_since(_user: UserId, since: datetime) -> int:
        asked.append(since)
        return 0

    async def admitted(request: Any, *, spent: Callable[[], Awaitable[int]]) -> Any:
        await spent()
        return await admit(request, spent=spent)

    monkeypatch.setattr(desk.turns, "spent_since", spent_since)
    monkeypatch.setattr(desk.admission, "admit", admitted)
    await desk.open(OPENING)
    assert asked == [datetime(2026, 11, 1, tzinfo=UTC)]


@pytest.mark.parametrize("latest", ["tip", "parent", "question"])
async def test_a_turn_comes_after_all_that_it_follows_and_leaves(latest: str) -> None:
    desk, now = Desk(MemoryTurns(), ScriptedProvider()), datetime.now(UTC)
    names = ("tip", "parent", "question")
    ahead = {
        name: MessageId(first_id_at(now + timedelta(hours=2 if name == latest else 1)))
        for name in names
    }
    is_new = latest != "question"
    opened = await desk.open(
        replace(
            OPENING,
            tip_id=ahead["tip"],
            asked=Asked("Why?", parent_id=ahead["parent"]) if is_new else Asked("Why?"),
            question_id=None if is_new else ahead["question"],
        )
    )
    hold = opened.hold
    assert hold.question_id is not None
    assert ahead[latest] < hold.id < hold.answer_id
    assert hold.question_id < hold.answer_id
    assert not is_new or hold.id < hold.question_id
