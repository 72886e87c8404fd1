"""The scripts of admission against a model in plain Python: any order of calls counts the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.limits.admission import (
    STREAMS,
    Admission,
    Admissions,
    Window,
    day_window,
    minute_window,
    spend_window,
    streams_at_once,
)
from shared.valkey import open_cache
from tests.support.engines import ValkeyServer

NOON = datetime(2030, 5, 17, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Admit:
    """A request at a minute; `cap` None asks for no money, `cost` None is an unknown one."""

    minute: int
    tokens: int
    cap: int | None
    cost: int | None
    is_stream: bool = True


@dataclass(frozen=True)
class Settle:
    which: int
    tokens: int
    cost: int | None


@dataclass(frozen=True)
class Refund:
    which: int


@dataclass(frozen=True)
class Repeat:
    """The same reservation is asked for again, as after a broken connection."""

    which: int


@dataclass(frozen=True)
class Lose:
    """A stream's lease runs out."""

    which: int


@dataclass(frozen=True)
class Renew:
    which: int


@dataclass(frozen=True)
class Forget:
    """Valkey comes back empty."""


@dataclass(frozen=True)
class Limits:
    """Narrow ones, so that each of them refuses something."""

    requests: int
    requests_a_day: int
    tokens: int
    streams: int


Step = Admit | Settle | Refund | Repeat | Lose | Renew | Forget
AMOUNTS = st.integers(0, 9)
WHICH = st.integers(0, 5)
UNKNOWN_OR = st.none() | AMOUNTS
STEPS = st.one_of(
    st.builds(Admit, st.integers(0, 1), AMOUNTS, st.none() | st.integers(0, 30), UNKNOWN_OR),
    st.builds(Admit, st.just(0), AMOUNTS, st.integers(20, 40), AMOUNTS, st.booleans()),
    st.builds(Settle, WHICH, AMOUNTS, UNKNOWN_OR),
    st.builds(Refund, WHICH),
    st.builds(Repeat, WHICH),
    st.builds(Lose, WHICH),
    st.builds(Renew, WHICH),
    st.builds(Forget),
)
LIMITS = st.builds(
    Limits, st.integers(0, 4), st.integers(1, 8), st.integers(3, 25), st.integers(1, 3)
)


@dataclass
class Reservation:
    """What was asked for, and what the model says it holds; None when that was given back,
    settled or forgotten."""

    id: str
    windows: Sequence[Window]
    streams: Window | None
    answer: Admission
    held: dict[str, int] | None
    runs: bool


@dataclass
class Model:
    """What the scripts promise."""

    books: int
    counters: dict[str, int] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)

    def admit(self, id_: str, windows: Sequence[Window], streams: Window | None) -> str | None:
        """The name of what refuses, or None and it is reserved."""
        for window in windows:
            if window.seeded and window.key("ada") not in self.counters:
                continue
            if self.counters.get(window.key("ada"), 0) + window.needed > window.limit:
                return window.name
        if streams is not None and len(self.running) >= streams.limit:
            return STREAMS
        for window in windows:
            if window.seeded and window.key("ada") not in self.counters:
                self.counters[window.key("ada")] = self.books
                return self.admit(id_, windows, streams)
        for window in windows:
            key = window.key("ada")
            self.counters[key] = self.counters.get(key, 0) + window.amount
        if streams is not None:
            self.running.add(id_)
        return None

    def settle(self, reservation: Reservation, used: dict[str, int]) -> None:
        for key, amount in used.items():
            if key in self.counters and reservation.held is not None:
                self.counters[key] += amount - reservation.held.get(key, 0)
        self.end(reservation)

    def refund(self, reservation: Reservation) -> None:
        for key, amount in (reservation.held or {}).items():
            if key in self.counters:
                self.counters[key] -= amount
        self.end(reservation)

    def end(self, reservation: Reservation) -> None:
        self.running.discard(reservation.id)
        reservation.held, reservation.runs = None, False


def windows_of(limits: Limits, step: Admit) -> list[Window]:
    now = NOON + timedelta(minutes=step.minute)
    windows = [
        minute_window("requests", limits.requests, now),
        day_window("requests_a_day", limits.requests_a_day, now),
        minute_window("tokens", limits.tokens, now, step.tokens),
    ]
    if step.cap is not None:
        windows.append(spend_window("money", step.cap, now, step.cost))
    return windows


@settings(max_examples=80, deadline=None)
@given(books=st.integers(0, 20), limits=LIMITS, steps=st.lists(STEPS, max_size=40))
async def test_the_scripts_do_what_the_model_does(
    valkey_server: ValkeyServer, books: int, limits: Limits, steps: list[Step]
) -> None:
    model, made = Model(books), list[Reservation]()
    with valkey_server.fresh_database() as url:
        async with open_cache(url) as cache:
            admissions = Admissions(cache)

            async def spent() -> int:
                return books

            async def admit(
                id_: str, windows: Sequence[Window], streams: Window | None
            ) -> Admission:
                return await admissions.admit(
                    "ada",
                    windows,
                    reservation=id_,
                    claimed_tier="pro",
                    streams=streams,
                    spent=spent,
                )

            for number, step in enumerate(steps):
                if isinstance(step, Admit):
                    windows = windows_of(limits, step)
                    streams = streams_at_once(limits.streams, NOON) if step.is_stream else None
                    answer = await admit(str(number), windows, streams)
                    refusal = model.admit(str(number), windows, streams)
                    assert (answer.refused and answer.refused.window.name) == refusal
                    for state in answer.states:
                        assert state.used == (
                            len(model.running)
                            if state.window.name == STREAMS
                            else model.counters.get(state.window.key("ada"), 0)
                        )
                    if refusal is None:
                        held = {window.key("ada"): window.amount for window in windows}
                        made.append(
                            Reservation(str(number), windows, streams, answer, held, step.is_stream)
                        )
                elif isinstance(step, Forget):
                    await cache.flushdb()
                    model.counters.clear()
                    model.running.clear()
                    for reservation in made:
                        reservation.held = None
                elif made:
                    chosen = made[step.which % len(made)]
                    if isinstance(step, Settle):
                        tokens, money = chosen.windows[2], spend_window("money", 0, NOON, 0)
                        used = [(tokens, step.tokens)]
                        used += [] if step.cost is None else [(money, step.cost)]
                        await admissions.settle("ada", chosen.id, used)
                        model.settle(chosen, {window.key("ada"): n for window, n in used})
                    elif isinstance(step, Refund):
                        await admissions.refund("ada", chosen.answer)
                        model.refund(chosen)
                    elif isinstance(step, Repeat) and chosen.held is not None:
                        again = await admit(chosen.id, chosen.windows, chosen.streams)
                        assert again.refused is None
                    elif isinstance(step, Lose):
                        await cache.zadd(f"limit:{{ada}}:{STREAMS}", {chosen.id: 1}, xx=True)
                        model.running.discard(chosen.id)
                    elif isinstance(step, Renew):
                        await admissions.renew({"ada": [chosen.id]})
                        if chosen.runs:
                            model.running.add(chosen.id)
                for key, amount in model.counters.items():
                    assert int(await cache.get(key) or 0) == amount, (step, key)
                [alive] = await admissions.standing("ada", [], streams_at_once(9, NOON))
                assert alive.used == len(model.running)
                for reservation in made:
                    marker = await cache.exists(f"reservation:{{ada}}:{reservation.id}")
                    assert bool(marker) == (reservation.held is not None)
