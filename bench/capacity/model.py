"""How much of everything so many users need: `python -m bench.capacity.model`.

It multiplies what was measured (figures.py) by what is assumed about people (below), and prints
tables of docs/capacity.md. A size is for the busiest minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.capacity import figures as seen
from deploy.k8s.needs import PROXY_THREADS
from deploy.k8s.processes import tiers
from deploy.k8s.scaling import in_flight_target
from shared.tiers import TIERS

SIZES = (10_000, 100_000, 10_000_000)
MONTH_DAYS = 30


@dataclass(frozen=True, slots=True)
class People:
    """What the users of one tier are assumed to do."""

    share: float  # of all users
    active: float  # of the tier's users, on a day
    turns: float  # of an active user, on a day
    streamed: float  # of their turns
    pieces: int  # of a streamed answer
    seconds: float  # that the vendor takes for an answer
    spoken: float  # of their turns


# No measurement stands behind these: they are what to replace first by a deployment's own numbers
# (`companion_http_requests_total` by pool, `GET /billing/admin/usage` by tier).
PEOPLE: Mapping[str, People] = {
    "free": People(0.90, 0.10, 8, 0.8, 60, 4, 0.02),
    "pro": People(0.08, 0.40, 30, 0.8, 150, 8, 0.10),
    "enterprise": People(0.02, 0.60, 60, 0.8, 200, 10, 0.10),
}
PEAK_HOUR = 0.12  # of a day's turns: one time zone and its office hours
BURST = 2.0  # the busiest minute against the average of its hour
FILLED = 0.6  # of a core before waiting shows
LEAST = {tier.name: 2 if tier.rank else 1 for tier in TIERS.values()}


@dataclass(frozen=True, slots=True)
class Load:
    """What one tier asks for in the busiest minute."""

    people: People
    a_day: float
    a_second: float

    @classmethod
    def of(cls, tier: str, users: int) -> Load:
        people = PEOPLE[tier]
        a_day = users * people.share * people.active * people.turns
        return cls(people, a_day, a_day * PEAK_HOUR * BURST / 3600)

    @property
    def pieces(self) -> float:
        """Of a turn, over streamed ones and others."""
        return self.people.pieces * self.people.streamed

    @property
    def in_flight(self) -> float:
        return self.a_second * self.people.seconds

    def cores(self, cost: seen.Cost) -> float:
        """Busy all the time, at a rented core's pace."""
        return self.a_second * cost.ms(self.pieces) * seen.PACE / 1000


@dataclass(frozen=True, slots=True)
class Sized:
    """What so many users need."""

    users: int
    loads: Mapping[str, Load]

    @classmethod
    def of(cls, users: int) -> Sized:
        return cls(users, {tier.name: Load.of(tier.name, users) for tier in tiers()})

    @property
    def turns_a_day(self) -> float:
        return sum(load.a_day for load in self.loads.values())

    @property
    def turns_a_second(self) -> float:
        return sum(load.a_second for load in self.loads.values())

    def cores(self, cost: seen.Cost) -> float:
        return sum(load.cores(cost) for load in self.loads.values())

    def chat_replicas(self, tier: str) -> int:
        """As many as the autoscaler makes, and never too few for their cores."""
        load = self.loads[tier]
        by_flight = load.in_flight / in_flight_target(TIERS[tier])
        return max(LEAST[tier], math.ceil(by_flight), math.ceil(load.cores(seen.CHAT) / FILLED))

    @property
    def all_chat(self) -> int:
        return sum(self.chat_replicas(tier) for tier in self.loads)

    @property
    def voice_replicas(self) -> int:
        """Over all tiers, of which each has its least."""
        speech = seen.Cost(seen.VOICE.turn_ms + seen.SPEECH_MB * seen.SPEECH_MB_MS)
        cores = sum(
            load.a_second * load.people.spoken * speech.turn_ms * seen.PACE / 1000
            for load in self.loads.values()
        )
        return max(sum(LEAST.values()), math.ceil(cores / FILLED))

    def replicas(self, cost: seen.Cost) -> int:
        """Of a part that all tiers share; two, so that one may go."""
        return max(2, math.ceil(self.cores(cost) / FILLED))

    @property
    def ledger_workers(self) -> int:
        """One for each tier at least; an event's cost is small beside a core."""
        return max(len(self.loads), math.ceil(self.cores(seen.Cost(seen.EVENT_MS)) / FILLED))

    @property
    def connections(self) -> int:
        """At PostgreSQL, when every pool is full. Auth and billing have two replicas each."""
        webs = self.all_chat + self.voice_replicas + 4
        keyvaults = self.replicas(seen.KEYVAULT)
        has = seen.CONNECTIONS
        workers = self.ledger_workers + 4
        return (
            webs * has["web"]
            + keyvaults * has["keyvault"]
            + workers * has["worker"]
            + 5 * (has["relay"] + has["beat"])
        )

    @property
    def app_mib(self) -> float:
        """Memory of all processes of ours."""
        webs = self.all_chat * seen.MIB["chat"] + self.voice_replicas * seen.MIB["voice"]
        shared = 2 * (seen.MIB["auth"] + seen.MIB["billing"])
        vault = self.replicas(seen.KEYVAULT) * seen.MIB["keyvault"]
        # Workers, and a beat for each service, which weighs as much at most.
        background = (self.ledger_workers + 4 + 5) * seen.MIB["worker"] + 5 * seen.MIB["relay"]
        proxies = (self.replicas(seen.GATEWAY) + self.replicas(seen.EGRESS)) * seen.MIB["proxy"]
        return webs + shared + vault + background + proxies

    @property
    def valkey_gb(self) -> float:
        kept = self.turns_a_second * seen.ANSWERS_KEPT_SECONDS
        return kept * seen.VALKEY_BYTES_AN_ANSWER / 1e9

    def gb_a_month(self, bytes_a_turn: float) -> float:
        return self.turns_a_day * MONTH_DAYS * bytes_a_turn / 1e9


def main() -> None:
    """Print the tables."""
    print("\n\n".join(table() for table in TABLES.values()))


def _per_core() -> str:
    """One core and one replica of chat, for each tier's usual turn."""
    rows = []
    for tier in tiers():
        load = Load.of(tier.name, SIZES[0])
        chat = seen.CHAT.ms(load.pieces)
        ours = sum(
            cost.ms(load.pieces) for cost in (seen.CHAT, seen.GATEWAY, seen.EGRESS, seen.KEYVAULT)
        ) + (seen.EVENT_MS + seen.RELAY_MS)
        engines = seen.POSTGRES.ms(load.pieces) + seen.VALKEY.ms(load.pieces)
        target = in_flight_target(tier)
        rows.append(
            [
                tier.name,
                f"{load.pieces:.0f}",
                f"{chat:.1f}",
                f"{ours:.1f}",
                f"{engines:.1f}",
                f"{1000 / (chat * seen.PACE) * FILLED:.0f}",
                f"{1000 / (ours * seen.PACE) * FILLED:.0f}",
                str(target),
                f"{target / load.people.seconds:.0f}",
            ]
        )
    return _table(
        [
            "tier",
            "pieces a turn",
            "chat, CPU-ms",
            "all of ours",
            "engines",
            "turns/s of a core of chat",
            "turns/s of a core, all of ours",
            "in flight a replica",
            "which are turns/s",
        ],
        rows,
    )


def _assumed() -> str:
    return _table(
        ["tier", "users", "active a day", "turns a day each", "streamed", "pieces", "s", "spoken"],
        [
            [
                name,
                f"{p.share:.0%}",
                f"{p.active:.0%}",
                f"{p.turns:g}",
                f"{p.streamed:.0%}",
                str(p.pieces),
                f"{p.seconds:g}",
                f"{p.spoken:.0%}",
            ]
            for name, p in PEOPLE.items()
        ],
    )


def _needed() -> str:
    """What each size needs, a row for each thing."""
    rows: Sequence[tuple[str, Callable[[Sized], str]]] = (
        ("turns a day", lambda s: f"{s.turns_a_day:,.0f}"),
        ("turns a second, busiest minute", lambda s: _number(s.turns_a_second)),
        ("of it free / pro / enterprise", _by_tier),
        ("answers being written", lambda s: f"{sum(x.in_flight for x in s.loads.values()):,.0f}"),
        ("cores busy: chat, keyvault, relay", lambda s: _number(_services(s))),
        ("cores busy: gateway / egress", _proxies),
        ("replicas of chat, free / pro / enterprise", _chats),
        ("replicas of voice, all tiers", lambda s: f"{s.voice_replicas}"),
        ("replicas of keyvault", lambda s: f"{s.replicas(seen.KEYVAULT)}"),
        ("billing's workers", lambda s: f"{s.ledger_workers}"),
        ("gateways, threads each", _gateways),
        ("memory of all our processes, GB", lambda s: f"{s.app_mib / 1024:,.1f}"),
        ("PostgreSQL: cores busy", lambda s: _number(s.cores(seen.POSTGRES))),
        (
            "PostgreSQL: commits / rows written a second",
            lambda s: (
                f"{s.turns_a_second * seen.COMMITS_A_TURN:,.0f}"
                f" / {s.turns_a_second * seen.ROWS_A_TURN:,.0f}"
            ),
        ),
        (
            "PostgreSQL: write-ahead log, MB/s",
            lambda s: _number(s.turns_a_second * seen.LOG_BYTES_A_TURN / 1e6),
        ),
        (
            "GB a month: chat / keyvault / billing",
            lambda s: " / ".join(
                _number(s.gb_a_month(each))
                for each in (seen.CHAT_BYTES, seen.KEYVAULT_BYTES, seen.BILLING_BYTES)
            ),
        ),
        ("PostgreSQL: connections, pools full", lambda s: f"{s.connections:,}"),
        ("Valkey: cores busy, GB", lambda s: f"{_number(s.cores(seen.VALKEY))}, {s.valkey_gb:.2f}"),
        ("events a second", lambda s: _number(s.turns_a_second)),
        ("of what one ledger worker takes", lambda s: _share(s)),
    )
    sized = [Sized.of(users) for users in SIZES]
    return _table(
        ["", *(f"{users:,} users" for users in SIZES)],
        [[name, *(tell(one) for one in sized)] for name, tell in rows],
    )


def _services(sized: Sized) -> float:
    return sum(map(sized.cores, (seen.CHAT, seen.KEYVAULT, seen.Cost(seen.RELAY_MS))))


def _by_tier(sized: Sized) -> str:
    return " / ".join(_number(load.a_second) for load in sized.loads.values())


def _proxies(sized: Sized) -> str:
    return f"{_number(sized.cores(seen.GATEWAY))} / {_number(sized.cores(seen.EGRESS))}"


def _chats(sized: Sized) -> str:
    return " / ".join(str(sized.chat_replicas(tier)) for tier in sized.loads)


def _gateways(sized: Sized) -> str:
    cores = sized.replicas(seen.GATEWAY)
    gateways = max(2, math.ceil(cores / PROXY_THREADS))
    return f"{gateways}, {math.ceil(cores / gateways)}"


def _share(sized: Sized) -> str:
    return f"{sized.turns_a_second * seen.PACE / seen.EVENTS_A_SECOND:.2%}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def streams_use_of_a_core(streams: int, frames: int, apart_seconds: float) -> float:
    """What chat takes of a quiet core while so many streams are under way, one after the other."""
    a_second = streams / (frames * apart_seconds)
    return a_second * seen.CHAT.ms(frames) / 1000


def turn_beside_a_flood(flood: seen.Flood) -> float:
    """Milliseconds of a turn on a core that it shares with a flood, by how fast that is answered.

    The core is full, and each of those who wait gets as much of it (processor sharing). What a
    refusal costs on that busy machine follows from how many answers it gave.
    """
    turns = flood.let_in + flood.others
    refusals = flood.answers - flood.let_in
    turn_ms = 1000 / (turns + refusals / flood.turn_costs_refusals) + flood.elsewhere_ms / (
        flood.in_flight + 1
    )
    return turn_ms * (flood.in_flight + 1)


def _validated() -> str:
    streams = streams_use_of_a_core(50, 64, 0.020)
    flooded = turn_beside_a_flood(seen.ONE_POOL_FLOODED)
    measured = seen.ONE_POOL_TURN_MS
    return _table(
        ["what", "measured", "the model", "off by"],
        [
            [
                "`bench.streams`, 50 at once: of a core, chat",
                f"{seen.STREAMS_CORE:.2f}",
                f"{streams:.2f}",
                f"{streams / seen.STREAMS_CORE - 1:+.0%}",
            ],
            [
                "`bench.pools --one-pool`: a pro turn beside the flood, ms",
                f"{measured:.0f}",
                f"{flooded:.0f}",
                f"{flooded / measured - 1:+.0%}",
            ],
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "per core": _per_core,
    "assumed": _assumed,
    "needed": _needed,
    "validated": _validated,
}


if __name__ == "__main__":
    main()
