"""The order of the proof: up, the tour, a pool of three, one fault after the other, the books."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from deploy.companion.errors import CompanionError
from deploy.companion.tour import Tour
from deploy.proof.answers import Attempt
from deploy.proof.books import account, open_work
from deploy.proof.containers import service_of
from deploy.proof.deployment import Deployment
from deploy.proof.faults import ALL, OF_THREE_BROKERS, SHORT, Fault, strike
from deploy.proof.load import Load
from deploy.proof.people import Person, gather_people, stay_signed_in
from deploy.proof.reconcile import Account
from deploy.proof.replacing import PROXIES, change_a_setting, renew_proxies, replace_all
from deploy.proof.report import Check, Result
from deploy.proof.rounds import Bounds, Figures, Round, figures, unfinished

POOL = "chat-pro"
REPLICAS = 3

READY_SECONDS = 60.0
_PATIENCE_SECONDS = 600.0  # a busy machine may take longer; then the bound is broken, and said so
_HEALTHY_SECONDS = 240.0
_BEFORE_SECONDS = 3.0
_CALM_SECONDS = 4.0
_LONGEST_ROUND_SECONDS = 90.0
_SETTLED_SECONDS = 120.0


@dataclass(slots=True)
class Proof:
    """One run against a deployment that was prepared; `tell` says how far it is."""

    deployment: Deployment
    tell: Callable[[str], None]
    short: bool = False
    per_second: float = 10.0
    brokers: int = 1
    checks: list[Check] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    async def run(self) -> Result:
        """All steps. Raises CompanionError when the deployment does not even come up."""
        await self._up()
        await self._members()
        await self._tour()
        timeout = httpx.Timeout(60, connect=10)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            base_url=self.deployment.url, timeout=timeout, limits=limits, trust_env=False
        ) as client:
            people = await gather_people(client, self.per_second)
            self.tell(f"{len(people)} users of three tiers are signed in")
            load = Load(client, people, self.per_second)
            await self._scale(load)
            await self._break_all(load, people)
            found = await self._settled(people, load.attempts)
        await self._chain()
        lines = [figures(each, load.attempts, found) for each in self.rounds]
        self._judge(load, found, lines)
        return Result(datetime.now(UTC).date(), self._versions(), self.checks, lines)

    async def _up(self) -> None:
        seconds = await asyncio.to_thread(self.deployment.up, seconds=_PATIENCE_SECONDS)
        self._check("`compose up` until all is healthy", f"{seconds:.0f} s", seconds, READY_SECONDS)

    async def _members(self) -> None:
        """Each queue on each of RabbitMQ's nodes."""
        members = await asyncio.to_thread(self.deployment.queue_members)
        fewest = min(members.values(), default=0)
        self.checks.append(
            Check(
                "copies of each queue",
                f"{len(members)} queues on {fewest} of {self.brokers} nodes at least",
                fewest == self.brokers,
            )
        )
        self.tell(self.checks[-1].result)

    async def _tour(self) -> None:
        began = time.monotonic()
        tour = Tour(self.deployment.url, lambda line: self.tell(f"  {line}"))
        await asyncio.to_thread(tour.walk)
        self._check("`companion demo`", f"complete in {time.monotonic() - began:.1f} s")

    async def _scale(self, load: Load) -> None:
        """More containers of a pool take requests while everybody else runs on."""
        containers = self.deployment.containers
        before = await asyncio.to_thread(_lives, containers.all())
        began = time.monotonic()
        async with load.going_on():
            await asyncio.to_thread(self.deployment.scale, POOL, REPLICAS)
            seconds = time.monotonic() - began
            taken = await self._until_all_take(_HEALTHY_SECONDS)
        after = await asyncio.to_thread(_lives, containers.all())
        restarted = [name for name, life in before.items() if after.get(name) != life]
        shares = " + ".join(f"{number:.0f}" for number in taken.values())
        good = len(taken) == REPLICAS and all(taken.values()) and not restarted
        failed = sum(attempt.failed for attempt in load.attempts)
        self.checks.append(
            Check(
                f"{POOL} scaled to {REPLICAS}",
                f"healthy after {seconds:.0f} s, {shares} requests, {failed} failed,"
                f" {len(restarted)} containers restarted",
                good and not failed,
            )
        )
        self.tell(self.checks[-1].result)

    async def _until_all_take(self, seconds: float) -> dict[str, float]:
        deadline = time.monotonic() + seconds
        while True:
            taken = await asyncio.to_thread(self.deployment.messages_taken, POOL)
            if all(taken.values()) or time.monotonic() > deadline:
                return taken
            await asyncio.sleep(1)

    async def _break_all(self, load: Load, people: Sequence[Person]) -> None:
        async with load.going_on():
            if not self.short:
                await self._round("replace all of chat-pro", Bounds(errors=0), load, self._replace)
                for name, act, touched in (
                    ("a setting of the gateway", change_a_setting, {"gateway"}),
                    ("a new version of the proxies", renew_proxies, set(PROXIES)),
                ):
                    await self._renew(load, name, act, touched)
            of_brokers = OF_THREE_BROKERS if self.brokers == 3 else ()
            for fault in (*(SHORT if self.short else ALL), *of_brokers):
                await stay_signed_in(load.client, list(people))
                await self._fault(fault, load)

    async def _fault(self, fault: Fault, load: Load) -> None:
        async def act() -> tuple[float, float]:
            return await strike(self.deployment.containers, fault)

        await self._round(fault.name, fault.bounds, load, act)

    async def _replace(self) -> tuple[float, float]:
        began = time.time()
        await asyncio.to_thread(replace_all, self.deployment, POOL)
        return began, time.time()

    async def _renew(
        self, load: Load, name: str, act: Callable[[Deployment], None], touched: Collection[str]
    ) -> None:
        """Those who are concerned are started anew, and nobody else is."""
        containers = self.deployment.containers

        async def acted() -> tuple[float, float]:
            began = time.time()
            await asyncio.to_thread(act, self.deployment)
            return began, time.time()

        before = await asyncio.to_thread(_lives_by_service, containers.all())
        # Streams that run through a proxy end with it.
        await self._round(name, Bounds(may_cut=True), load, acted)
        after = await asyncio.to_thread(_lives_by_service, containers.all())
        jobs = {f"{proxy}-config" for proxy in PROXIES} | {"volumes"}
        renewed = {one for one, lives in before.items() if after.get(one) != lives} - jobs
        told = ", ".join(sorted(renewed)) or "nobody"
        self.checks.append(Check(name, f"started anew: {told}", renewed == set(touched)))
        self.tell(self.checks[-1].result)

    async def _round(
        self,
        name: str,
        bounds: Bounds,
        load: Load,
        act: Callable[[], Any],
    ) -> None:
        began = time.time()
        await asyncio.sleep(_BEFORE_SECONDS)
        self.tell(f"{name} …")
        struck, lifted = await act()
        healthy = await asyncio.to_thread(self.deployment.containers.wait_healthy, _HEALTHY_SECONDS)
        await _calm(load, until=time.time() + _LONGEST_ROUND_SECONDS)
        ended = time.time()
        self.rounds.append(Round(name, bounds, began, struck, lifted, ended, lifted + healthy))
        ours = [a for a in load.attempts if a.began >= began and a.failed and not a.waits]
        self.tell(f"  {len(ours)} failed attempts; healthy {healthy:.1f} s after")

    async def _settled(self, people: Sequence[Person], attempts: Sequence[Attempt]) -> Account:
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
        self._check(
            "all settled after the load's end",
            f"{waited:.0f} s{f', but {open_} are open' if open_ else ''}",
            waited,
            _SETTLED_SECONDS,
        )
        return found

    def _look(
        self, people: Sequence[Person], attempts: Sequence[Attempt]
    ) -> tuple[Account, dict[str, int]]:
        return account(self.deployment, people, attempts), dict(open_work(self.deployment))

    async def _chain(self) -> None:
        try:
            said = await asyncio.to_thread(self.deployment.verify_ledger)
            self.checks.append(Check("`companion ledger verify`", said.splitlines()[-1], True))
        except CompanionError as error:
            self.checks.append(Check("`companion ledger verify`", str(error), False))
        self.tell(self.checks[-1].result)

    def _judge(self, load: Load, found: Account, lines: Sequence[Figures]) -> None:
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

    def _versions(self) -> dict[str, str]:
        engine = self.deployment.containers.client.version()
        return {
            "Docker": str(engine["Version"]),
            "compose": self.deployment.compose.version,
            "Linux": str(engine.get("KernelVersion", "unknown")),
            "processors": str(self.deployment.containers.client.info().get("NCPU", "?")),
        }

    def _check(
        self, name: str, result: str, value: float = 0.0, at_most: float = float("inf")
    ) -> None:
        bound = f" ({at_most:.0f} s at most)" if at_most != float("inf") else ""
        self.checks.append(Check(name, result + bound, value <= at_most))
        self.tell(f"{name}: {result}")


async def _calm(load: Load, *, until: float) -> None:
    """Wait for some seconds in which nothing failed."""
    while time.time() < until:
        recent = time.time() - _CALM_SECONDS
        failed = [a for a in load.attempts[-500:] if a.failed and a.ended > recent]
        well = [a for a in load.attempts[-500:] if not a.failed and a.began > recent]
        if well and not failed:
            return
        await asyncio.sleep(0.5)


def _lives_by_service(containers: Sequence[Any]) -> dict[str, set[str]]:
    """When the containers of each compose service were started last."""
    found: dict[str, set[str]] = {}
    for container in containers:
        container.reload()
        started = str(container.attrs["State"]["StartedAt"])
        found.setdefault(service_of(container), set()).add(started)
    return found


def _lives(containers: Sequence[Any]) -> dict[str, str]:
    """When each container was started last."""
    for container in containers:
        container.reload()
    return {c.name: str(c.attrs["State"]["StartedAt"]) for c in containers}
