"""`python -m deploy.proof.cluster [--url URL]`: the proof where kubectl's context points.

It applies nothing: the overlay `development` runs there already, with its pod of tools. Exits with
1 when a bound is broken, 2 when it can't run.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from datetime import UTC, datetime
from functools import partial

import httpx

from deploy.companion.errors import CompanionError
from deploy.companion.ports import free_port
from deploy.companion.settings import ROOT
from deploy.proof.course import HEALTHY_SECONDS, Course, timed
from deploy.proof.kubectl import Kubectl
from deploy.proof.load import Load
from deploy.proof.namespace import Namespace
from deploy.proof.people import Person, gather_people, stay_signed_in
from deploy.proof.report import Check, Result, document, keep
from deploy.proof.rounds import Bounds, figures
from shared.values import dataclass

KEPT = ROOT / "docs" / "proof-kubernetes.md"
MARK = "<!-- measured: written by `python -m deploy.proof.cluster` -->"
POOL, REPLICAS = "chat-pro", 3

_READY_SECONDS = 900.0
_ROLLOUT_SECONDS = 900.0
_TUNNEL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Loss:
    """A pod that is deleted; `at_once` leaves it the two seconds that a node grants whatever is
    asked."""

    name: str
    bounds: Bounds
    at_once: bool = False

    @property
    def title(self) -> str:
        return f"delete a pod of {self.name}{' at once' if self.at_once else ''}"


# A pool of three goes on with two, and who is asked to leave ends what it is at.
_UNNOTICED = Bounds(errors=0, recovery_seconds=0)
# Where it was the only pod, there is none until the next one is ready, and that is told. Recovery
# counts from when the pod is gone.
_AWAY = Bounds(may_cut=True, recovery_seconds=60)

LOSSES: Sequence[Loss] = (
    Loss(POOL, _UNNOTICED),
    Loss(POOL, Bounds(may_cut=True, recovery_seconds=20), at_once=True),
    Loss("billing-worker-pro", _UNNOTICED),
    Loss("billing-worker-pro", _UNNOTICED, at_once=True),
    Loss("chat-relay", _UNNOTICED, at_once=True),
    Loss("chat-beat", _UNNOTICED),
    Loss("keyvault", _AWAY),
    Loss("egress", _AWAY),
    Loss("gateway", _AWAY),
    Loss("valkey", _AWAY),
    Loss("rabbitmq", _UNNOTICED),
    Loss("postgres", _AWAY),
)

ROLLOUTS: Sequence[str] = ("web", "worker", "beat", "relay")
PROXIES: Sequence[str] = ("egress", "gateway")


@dataclass(slots=True)
class Proof:
    """One run. `tunnelled`: the gateway is reached through one pod of it, which so has to stay."""

    suite: Namespace
    tell: Callable[[str], None]
    per_second: float
    tunnelled: bool
    course: Course = field(init=False)

    def __post_init__(self) -> None:
        self.course = Course(self.suite, self.tell)

    async def run(self) -> Result:
        """All steps. Raises CompanionError when the suite is not even there."""
        course = self.course
        await asyncio.to_thread(self.suite.wait_healthy, _READY_SECONDS)
        await course.tour()
        async with course.client() as client:
            people = await gather_people(client, self.per_second)
            self.tell(f"{len(people)} users of three tiers are signed in")
            load = Load(client, people, self.per_second)
            before = await asyncio.to_thread(self.suite.replicas, POOL)
            try:
                await self._scale(load)
                async with load.going_on():
                    await self._renew_all(load, people)
                    await self._lose_all(load, people)
            finally:
                await asyncio.to_thread(self.suite.scale, POOL, before)
            found = await course.settled(people, load.attempts)
        await course.chain()
        lines = [figures(each, load.attempts, found) for each in course.rounds]
        course.judge(load, found, lines)
        return Result(datetime.now(UTC).date(), self.suite.versions(), course.checks, lines)

    async def _scale(self, load: Load) -> None:
        began = time.monotonic()
        async with load.going_on():
            await asyncio.to_thread(self.suite.scale, POOL, REPLICAS)
            await asyncio.to_thread(self.suite.wait_healthy, HEALTHY_SECONDS)
            seconds = time.monotonic() - began
            taken = await self.course.until_all_take(POOL)
        failed = sum(attempt.failed for attempt in load.attempts)
        shares = " + ".join(f"{number:.0f}" for number in taken.values())
        self.course.checks.append(
            Check(
                f"{POOL} scaled to {REPLICAS}",
                f"ready after {seconds:.0f} s, {shares} requests, {failed} failed",
                len(taken) == REPLICAS and all(taken.values()) and not failed,
            )
        )
        self.tell(self.course.checks[-1].result)

    async def _renew_all(self, load: Load, people: list[Person]) -> None:
        """A rollout of everything, kind by kind: nobody notices."""
        for kind in ROLLOUTS:
            names = await asyncio.to_thread(self.suite.names, kind)
            await self._renew(f"rollout of every {kind}", names, load, people)
        for proxy in filter(self._may_go, PROXIES):
            await self._renew(f"rollout of the {proxy}", [proxy], load, people)

    def _may_go(self, name: str) -> bool:
        return name != "gateway" or not self.tunnelled

    async def _renew(
        self, title: str, names: Sequence[str], load: Load, people: list[Person]
    ) -> None:
        restart = timed(partial(self.suite.restart, *names, seconds=_ROLLOUT_SECONDS))
        await stay_signed_in(load.client, people)
        await self.course.round(title, _UNNOTICED, load, restart)

    async def _lose_all(self, load: Load, people: list[Person]) -> None:
        for loss in LOSSES:
            if not self._may_go(loss.name):
                continue
            lose = timed(partial(self.suite.delete, loss.name, at_once=loss.at_once))
            await stay_signed_in(load.client, people)
            await self.course.round(loss.title, loss.bounds, load, lose)


@contextmanager
def reached(kubectl: Kubectl, url: str | None) -> Iterator[str]:
    """The gateway's address: the one that was given, or a tunnel's end on this machine."""
    if url:
        yield url
        return
    port = free_port()
    command = kubectl.command("port-forward", "service/gateway", f"{port}:8080")
    tunnel = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - no shell
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        yield address
    finally:
        tunnel.terminate()
        tunnel.wait()


def _wait(url: str) -> None:
    deadline = time.monotonic() + _TUNNEL_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(url, trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise CompanionError(f"Nobody answers at {url}.")


_BEGAN = time.monotonic()


def _tell(line: str) -> None:
    print(f"{time.monotonic() - _BEGAN:6.1f}  {line}", flush=True)


def main() -> None:
    given = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kubectl = Kubectl()
    try:
        with reached(kubectl, given.url) as url:
            suite = Namespace(kubectl, url)
            proof = Proof(suite, _tell, per_second=given.rate, tunnelled=given.url is None)
            result = asyncio.run(proof.run())
    except CompanionError as error:
        print(f"proof: {error}", file=sys.stderr)
        sys.exit(2)
    print(document(result))
    keep(result, KEPT, MARK)
    sys.exit(0 if result.good else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.proof.cluster", description=__doc__)
    parser.add_argument(
        "--url",
        help="where the gateway is reached; without it through a tunnel to one of its pods,"
        " and then that one stays",
    )
    parser.add_argument("--rate", type=float, default=5.0, help="turns a second (default 5)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
