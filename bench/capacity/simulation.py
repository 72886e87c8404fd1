"""A burst of one tier, seconds by seconds: with a pool for each tier, and with one for all.

A fluid in small steps. A turn waits for its share of chat's cores behind what came before it, is
then its vendor's, and is in flight for as long. Keyvault and the gateway stand before both designs,
since all tiers share them. What is simulated is the waiting for processor time and the autoscaler;
not limits, failures, PostgreSQL or the vendor's own trouble.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.capacity import figures as seen
from bench.capacity.autoscaler import Autoscaler, Rules, needs_of_name
from bench.capacity.model import PEOPLE
from deploy.k8s.processes import tiers

STEP = 0.25
ASKED_EVERY = 15.0
POD_STARTS_IN = 20.0
"""From the decision until it serves: schedule, start, ready. The image is there already."""
GIVES_UP_AFTER = 30.0
"""A client that has waited so long is gone, and its turn costs nothing more."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Turns a second of each tier, and a burst of one of them."""

    steady: Mapping[str, float]
    burst_of: str
    times: float
    begins: float = 300.0
    ends: float = 780.0
    lasts: float = 1500.0
    seed: int = 8
    # The fewest replicas of what all tiers share; 0: it has no limit.
    shared_least: int = 2

    def rate(self, tier: str, now: float) -> float:
        bursting = tier == self.burst_of and self.begins <= now < self.ends
        return self.steady[tier] * (self.times if bursting else 1.0)


@dataclass(slots=True)
class Stage:
    """A workload that shares its cores among all who wait."""

    scaler: Autoscaler
    cores: float  # of a replica
    busy: float  # cores, over the last steps
    ready: int
    most: int = 0
    started_with: int = 0
    waiting: dict[str, float] = field(default_factory=dict)  # core seconds, by tier
    coming: list[float] = field(default_factory=list)  # when replicas will be ready

    @classmethod
    def under(cls, rules: Rules, used: float, *, cores: float = 1.0, busy: float = 0.0) -> Stage:
        """As it stands when nothing has happened for a while."""
        replicas = min(max(rules.least, math.ceil(used / rules.target)), rules.most)
        return cls(Autoscaler(rules, replicas), cores, busy, replicas, replicas, replicas)

    def delay(self) -> float:
        """How long a turn that comes now waits."""
        return sum(self.waiting.values()) / (self.ready * self.cores)

    def work(self, arrived: Mapping[str, float]) -> Mapping[str, float]:
        """One step; what was done for each tier. What would wait longer than its client does is
        not done."""
        able = self.ready * self.cores * STEP
        asked = {tier: self.waiting.get(tier, 0.0) + more for tier, more in arrived.items()}
        total = sum(asked.values())
        done = min(total, able)
        left = min(total - done, self.ready * self.cores * GIVES_UP_AFTER)
        self.busy += (done / STEP - self.busy) * STEP / ASKED_EVERY
        if total == 0:
            return dict.fromkeys(asked, 0.0)
        self.waiting = {tier: work * left / total for tier, work in asked.items()}
        return {tier: work * done / total for tier, work in asked.items()}

    def scale(self, now: float, used: float) -> None:
        wanted = self.scaler.decide(now, used)
        there = self.ready + len(self.coming)
        if wanted > there:
            self.coming += [now + POD_STARTS_IN] * (wanted - there)
        while wanted < self.ready + len(self.coming):
            if self.coming:
                self.coming.pop()
            else:
                self.ready -= 1

    def start_pods(self, now: float) -> None:
        self.ready += sum(at <= now for at in self.coming)
        self.coming = [at for at in self.coming if at > now]
        self.most = max(self.most, self.ready)


@dataclass(slots=True)
class Seen:
    """What users of a tier saw in the time of the burst."""

    waits: dict[float, int] = field(default_factory=lambda: defaultdict(int))  # ms: turns
    before: dict[float, int] = field(default_factory=lambda: defaultdict(int))

    def percentile(self, which: float, *, before: bool = False) -> float:
        """Milliseconds waited for processor time."""
        waits = self.before if before else self.waits
        left = sum(waits.values()) * which / 100
        for wait in sorted(waits):
            left -= waits[wait]
            if left <= 0:
                return wait
        return 0.0

    def longer_than(self, milliseconds: float) -> float:
        """The share of turns."""
        total = sum(self.waits.values())
        return sum(n for wait, n in self.waits.items() if wait > milliseconds) / max(total, 1)


@dataclass(slots=True)
class Run:
    """What came of a scenario."""

    tiers: Mapping[str, Seen]
    pools: Mapping[str, Stage]
    common: Mapping[str, Stage]
    seconds_over: Mapping[str, int]  # of the run, in which a turn waited longer than a second


def core_seconds(cost: seen.Cost, tier: str) -> float:
    """What a turn of the tier costs, at a rented core's pace."""
    people = PEOPLE[tier]
    return cost.ms(people.pieces * people.streamed) * seen.PACE / 1000


def simulate(scenario: Scenario, pools: Mapping[str, Sequence[str]], *, target: float) -> Run:
    """`pools` says which tiers each serves; `target`: in flight a replica, where those are many."""
    rules = {tier.name: Rules.of_pool(f"chat-{tier.name}") for tier in tiers()}
    steady = scenario.steady
    usual = {t: steady[t] * PEOPLE[t].seconds for t in steady}
    stages = {
        name: Stage.under(
            rules[of[0]]
            if len(of) == 1
            else Rules.of_one_pool([rules[tier] for tier in of], target),
            sum(usual[tier] for tier in of),
        )
        for name, of in pools.items()
    }
    pool_of = {tier: name for name, of in pools.items() for tier in of}
    common = _common(steady, scenario.shared_least) if scenario.shared_least else {}
    dice = random.Random(scenario.seed)
    leaving: dict[str, dict[int, int]] = {name: defaultdict(int) for name in pools}
    in_flight = {name: int(sum(usual[t] for t in of)) for name, of in pools.items()}
    for name, of in pools.items():
        for tier in of:
            _already_there(leaving[name], usual[tier], PEOPLE[tier].seconds)
    tell = {tier: Seen() for tier in steady}
    over: dict[str, set[int]] = {tier: set() for tier in steady}
    for step in range(int(scenario.lasts / STEP)):
        now = step * STEP
        arrived = {t: _poisson(dice, scenario.rate(t, now) * STEP) for t in steady}
        shared_wait = sum(stage.delay() for stage in common.values())
        for stage in (*stages.values(), *common.values()):
            stage.start_pods(now)
        for name in pools:
            in_flight[name] -= leaving[name].pop(step, 0)
        for tier, number in arrived.items():
            stage = stages[pool_of[tier]]
            wait = min(stage.delay() + shared_wait, GIVES_UP_AFTER)
            _note(tell[tier], scenario, now, wait, number)
            if wait > 1:
                over[tier].add(int(now))
            stays = wait + (PEOPLE[tier].seconds if wait < GIVES_UP_AFTER else 0)
            leaving[pool_of[tier]][step + max(1, int(stays / STEP))] += number
            in_flight[pool_of[tier]] += number
        _work(arrived, stages, pools, common)
        if step % int(ASKED_EVERY / STEP) == 0:
            for name, stage in stages.items():
                stage.scale(now, in_flight[name])
            for stage in common.values():
                stage.scale(now, stage.busy)
    return Run(tell, stages, common, {tier: len(seconds) for tier, seconds in over.items()})


def _work(
    arrived: Mapping[str, int],
    stages: Mapping[str, Stage],
    pools: Mapping[str, Sequence[str]],
    common: Mapping[str, Stage],
) -> None:
    """One step of all: the gateway, the pools, their egress, and keyvault, which that asks."""
    turns: Mapping[str, float] = arrived
    if common:
        turns = _turns(common["gateway"], turns, seen.GATEWAY)
    done: dict[str, float] = {}
    for name, stage in stages.items():
        done |= _turns(stage, {tier: turns[tier] for tier in pools[name]}, seen.CHAT)
    if common:
        _turns(common["keyvault"], _turns(common["egress"], done, seen.EGRESS), seen.KEYVAULT)


def _turns(stage: Stage, turns: Mapping[str, float], cost: seen.Cost) -> dict[str, float]:
    """How many turns of each tier a stage is done with."""
    each = {tier: core_seconds(cost, tier) for tier in turns}
    done = stage.work({tier: number * each[tier] for tier, number in turns.items()})
    return {tier: work / each[tier] for tier, work in done.items()}


def _common(steady: Mapping[str, float], least: int) -> dict[str, Stage]:
    found = {}
    for name, cost in (
        ("gateway", seen.GATEWAY),
        ("egress", seen.EGRESS),
        ("keyvault", seen.KEYVAULT),
    ):
        cores = needs_of_name(name).most_cores
        used = sum(rate * core_seconds(cost, tier) for tier, rate in steady.items())
        rules = replace(Rules.of_shared(name), least=least)
        found[name] = Stage.under(rules, used, cores=cores, busy=used)
    return found


def _already_there(leaving: dict[int, int], number: float, seconds: float) -> None:
    """Turns that began before the first step end evenly over the time that one takes."""
    steps = int(seconds / STEP)
    for index in range(int(number)):
        leaving[index % steps] += 1


def _note(tell: Seen, scenario: Scenario, now: float, wait: float, number: int) -> None:
    rounded = float(round(wait * 1000))
    if scenario.begins <= now < scenario.ends:
        tell.waits[rounded] += number
    elif now < scenario.begins:
        tell.before[rounded] += number


def _poisson(dice: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    limit, product, number = math.exp(-mean), dice.random(), 0
    while product > limit:
        product *= dice.random()
        number += 1
    return number
