"""What proofs have in common, wherever the suite runs: the tour, rounds under load, the books."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Protocol

import httpx

from deploy.companion.errors import CompanionError
from deploy.companion.tour import Tour
from deploy.proof.answers import Attempt
from deploy.proof.books import Books, account, open_work
from deploy.proof.load import Load
from deploy.proof.people import Person
from deploy.proof.reconcile import Account
from deploy.proof.report import Check
from deploy.proof.rounds import Bounds, Figures, Round, unfinished
from shared.values import dataclass

HEALTHY_SECONDS = 240.0
_BEFORE_SECONDS = 3.0
_CALM_SECONDS = 4.0
_LONGEST_ROUND_SECONDS = 90.0
_SETTLED_SECONDS = 120.0


class Suite(Books, Protocol):
    """A suite that runs somewhere, whose books can be read."""

    @property
    def url(self) -> str:
        """Where its gateway answers."""
        ...

    def wait_healthy(self, seconds: float) -> float:
        """How long it took until nothing was out of order. Raises CompanionError."""
        ...

    def messages_taken(self, service: str) -> Mapping[str, float]:
        """How many questions each replica of a pool has taken since it began."""
        ...

    def verify_ledger(self) -> str:
        """What `companion ledger verify` says. Raises CompanionError."""
        ...


@dataclass(slots=True)
class Course:
    """The steps, and what came of them; `tell` says how far it is."""

    suite: Suite
    tell: Callable[[str], None]
    checks: list[Check] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Of all users together."""
        timeout = httpx.Timeout(60, connect=10)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            base_url=self.suite.url, timeout=timeout, limits=limits, trust_env=False
        ) as client:
            yield client

    async def tour(self) -> None:
        began = time.monotonic()
        tour = Tour(self.suite.url, lambda line: self.tell(f"  {line}"))
        await asyncio.to_thread(tour.walk)
        self.check("`companion demo`", f"complete in {time.monotonic() - began:.1f} s")

    async def until_all_take(self, pool: str) -> Mapping[str, float]:
        """How many questions each replica has taken, once all have one; or after a while."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while True:
            taken = await asyncio.to_thread(self.suite.messages_taken, pool)
            if all(taken.values()) or time.monotonic() > deadline:
                return taken
            await asyncio.sleep(1)

    async def round(
        self,
        name: str,
        bounds: Bounds,
        load: Load,
        act: Callable[[], Awaitable[tuple[float, float]]],
    ) -> None:
        """One thing happens under load; `act` says from when to when it was there."""
        began = time.time()
        await asyncio.sleep(_BEFORE_SECONDS)
        self.tell(f"{name} …")
        struck, lifted = await act()
        healthy = await asyncio.to_thread(self.suite.wait_healthy, HEALTHY_SECONDS)
        await _calm(load, until=time.time() + _LONGEST_ROUND_SECONDS)
        ended = time.time()
        self.rounds.append(Round(name, bounds, began, struck, lifted, ended, lifted + healthy))
        ours = [a for a in load.attempts if a.began >= began and a.failed and not a.waits]
        told = ", ".join(f"{n} × {label}" for label, n in Counter(a.label for a in ours).items())
        self.tell(f"  failed attempts: {told or 'none'}; healthy {healthy:.1f} s after")

    async def settled(self, people: Sequence[Person], attempts: Sequence[Attempt]) -> Account:
        """The books once nothing is on its way; or as they are when that never comes."""
        began = time.monotonic()
        self.tell("waiting until everything is settled …")
        while True:
            found, still = await asyncio.to_thread(self._look, people, attempts)
            waited = time.monotonic() - began
            if (found.is_exact and not any(still.values())) or waited > _SETTLED_SECONDS:
                break
            await asyncio.sleep(2)
        open_ = ", ".join(f"{number} at {name}" for name, number in still.items() if number)
        self.check(
            "all settled after the load's end",
            f"{waited:.0f} s{f', but {open_} are open' if open_ else ''}",
            waited,
            _SETTLED_SECONDS,
        )
        return found

    def _look(
        self, people: Sequence[Person], attempts: Sequence[Attempt]
    ) -> tuple[Account, dict[str, int]]:
        return account(self.suite, people, attempts), dict(open_work(self.suite))

    async def chain(self) -> None:
        """The ledger's links."""
        try:
            said = await asyncio.to_thread(self.suite.verify_ledger)
            self.checks.append(Check("`companion ledger verify`", said.splitlines()[-1], True))
        except CompanionError as error:
            self.checks.append(Check("`companion ledger verify`", str(error), False))
        self.tell(self.checks[-1].result)

    def judge(self, load: Load, found: Account, lines: Sequence[Figures]) -> None:
        """The sums over all rounds, and of what fell between them."""
        lost, double, wrong = (found.count(kind) for kind in ("lost", "double", "wrong"))
        self.checks.append(
            Check(
                "calls served by vendors / entries in the ledger",
                f"{found.served} / {found.entries}: lost {lost}, double {double}, wrong {wrong},"
                f" {len(found.estimates)} estimated",
                found.is_exact,
            )
        )
        turns = len({attempt.turn for attempt in load.attempts})
        left = unfinished(load.attempts)
        self.checks.append(
            Check(
                "turns with a last word",
                f"{turns - left} of {turns}; {load.left_out} not begun, as too many were running",
                left == 0,
            )
        )
        for finding in found.findings[:20]:
            self.tell(f"  {finding.kind}: {finding.what}")
        for line in lines:
            for what in line.broken:
                self.tell(f"  {line.name}: {what}")

    def check(
        self, name: str, result: str, value: float = 0.0, at_most: float = float("inf")
    ) -> None:
        """Note a result, and whether its value keeps the bound."""
        bound = f" ({at_most:.0f} s at most)" if at_most != float("inf") else ""
        self.checks.append(Check(name, result + bound, value <= at_most))
        self.tell(f"{name}: {result}")


def timed(act: Callable[[], None]) -> Callable[[], Awaitable[tuple[float, float]]]:
    """What blocks, done beside the load; when it began and when it had ended."""

    async def acted() -> tuple[float, float]:
        began = time.time()
        await asyncio.to_thread(act)
        return began, time.time()

    return acted


async def _calm(load: Load, *, until: float) -> None:
    """Wait for some seconds in which nothing failed."""
    while time.time() < until:
        recent = time.time() - _CALM_SECONDS
        failed = [a for a in load.attempts[-500:] if a.failed and a.ended > recent]
        well = [a for a in load.attempts[-500:] if not a.failed and a.began > recent]
        if well and not failed:
            return
        await asyncio.sleep(0.5)
