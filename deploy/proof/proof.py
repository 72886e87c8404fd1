"""The order of the proof: up, the tour, a pool of three, one fault after the other, the books."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from deploy.proof.containers import service_of
from deploy.proof.course import Course, timed
from deploy.proof.deployment import Deployment
from deploy.proof.faults import ALL, OF_THREE_BROKERS, SHORT, UNNOTICED, Fault, strike
from deploy.proof.load import Load
from deploy.proof.people import Person, gather_people, stay_signed_in
from deploy.proof.replacing import (
    PROXIES,
    change_a_setting,
    envoys,
    renew_proxies,
    replace_all,
)
from deploy.proof.report import Check, Result
from deploy.proof.rounds import figures
from shared.values import dataclass

POOL = "chat-pro"
REPLICAS = 3

READY_SECONDS = 60.0
_PATIENCE_SECONDS = 600.0  # a busy machine may take longer; then the bound is broken, and said so


@dataclass(slots=True)
class Proof:
    """One run against a deployment that was prepared; `tell` says how far it is."""

    deployment: Deployment
    tell: Callable[[str], None]
    short: bool = False
    per_second: float = 10.0
    brokers: int = 1
    course: Course = field(init=False)

    def __post_init__(self) -> None:
        self.course = Course(self.deployment, self.tell)

    async def run(self) -> Result:
        """All steps. Raises CompanionError when the deployment does not even come up."""
        await self._up()
        await self._members()
        await self.course.tour()
        async with self.course.client() as client:
            people = await gather_people(client, self.per_second)
            self.tell(f"{len(people)} users of three tiers are signed in")
            load = Load(client, people, self.per_second)
            await self._scale(load)
            await self._break_all(load, people)
            found = await self.course.settled(people, load.attempts)
        await self.course.chain()
        lines = [figures(each, load.attempts, found) for each in self.course.rounds]
        self.course.judge(load, found, lines)
        return Result(datetime.now(UTC).date(), self._versions(), self.course.checks, lines)

    async def _up(self) -> None:
        seconds = await asyncio.to_thread(self.deployment.up, seconds=_PATIENCE_SECONDS)
        self.course.check(
            "`compose up` until all is healthy", f"{seconds:.0f} s", seconds, READY_SECONDS
        )

    async def _members(self) -> None:
        """Each queue on each of RabbitMQ's nodes."""
        members = await asyncio.to_thread(self.deployment.queue_members)
        fewest = min(members.values(), default=0)
        self.course.checks.append(
            Check(
                "copies of each queue",
                f"{len(members)} queues on {fewest} of {self.brokers} nodes at least",
                fewest == self.brokers,
            )
        )
        self.tell(self.course.checks[-1].result)

    async def _scale(self, load: Load) -> None:
        """More containers of a pool take requests while everybody else runs on."""
        containers = self.deployment.containers
        before = await asyncio.to_thread(_lives, containers.all())
        began = time.monotonic()
        async with load.going_on():
            await asyncio.to_thread(self.deployment.scale, POOL, REPLICAS)
            seconds = time.monotonic() - began
            taken = await self.course.until_all_take(POOL)
        after = await asyncio.to_thread(_lives, containers.all())
        restarted = [name for name, life in before.items() if after.get(name) != life]
        shares = " + ".join(f"{number:.0f}" for number in taken.values())
        good = len(taken) == REPLICAS and all(taken.values()) and not restarted
        failed = sum(attempt.failed for attempt in load.attempts)
        self.course.checks.append(
            Check(
                f"{POOL} scaled to {REPLICAS}",
                f"healthy after {seconds:.0f} s, {shares} requests, {failed} failed,"
                f" {len(restarted)} containers restarted",
                good and not failed,
            )
        )
        self.tell(self.course.checks[-1].result)

    async def _break_all(self, load: Load, people: Sequence[Person]) -> None:
        async with load.going_on():
            if not self.short:
                replace = timed(partial(replace_all, self.deployment, POOL))
                await self.course.round("replace all of chat-pro", UNNOTICED, load, replace)
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

        await self.course.round(fault.name, fault.bounds, load, act)

    async def _renew(
        self, load: Load, name: str, act: Callable[[Deployment], None], touched: Collection[str]
    ) -> None:
        """Another Envoy where it is asked for; no container is started anew, no answer fails."""
        containers = self.deployment.containers

        before = await asyncio.to_thread(_lives_by_service, containers.all())
        envoys_before = await asyncio.to_thread(envoys, self.deployment)
        act_once = timed(partial(act, self.deployment))
        await self.course.round(name, UNNOTICED, load, act_once)
        after = await asyncio.to_thread(_lives_by_service, containers.all())
        envoys_after = await asyncio.to_thread(envoys, self.deployment)
        jobs = {f"{proxy}-config" for proxy in PROXIES} | {"volumes", "envoy"}
        renewed = {one for one, lives in before.items() if after.get(one) != lives} - jobs
        exchanged = {proxy for proxy in PROXIES if envoys_before[proxy] != envoys_after[proxy]}
        told = ", ".join(sorted(exchanged)) or "nowhere"
        restarted = ", ".join(sorted(renewed)) or "none"
        good = exchanged == set(touched) and not renewed
        result = f"another Envoy in: {told}; containers started anew: {restarted}"
        self.course.checks.append(Check(name, result, good))
        self.tell(self.course.checks[-1].result)

    def _versions(self) -> dict[str, str]:
        engine = self.deployment.containers.client.version()
        return {
            "Docker": str(engine["Version"]),
            "compose": self.deployment.compose.version,
            "Linux": str(engine.get("KernelVersion", "unknown")),
            "processors": str(self.deployment.containers.client.info().get("NCPU", "?")),
        }


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
