"""The money check: what the vendors served against what stands in billing's ledger.

Each served call is exactly one entry. Beyond that only what the rules of settlement foresee
(`docs/decisions/0006`, `0031`) may be charged: a hold whose replica died, or an attempt of which
nobody knows whether the vendor had begun, as an estimate that says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from shared.values import dataclass

ESTIMATED_OUTCOMES = frozenset({"replica_lost", "provider_failed", "client_gone", "stopped"})

TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)


@dataclass(frozen=True, slots=True)
class Served:
    """A call that a vendor has begun to answer, and would charge for."""

    response_id: str
    owner: str
    at: float
    whole: bool
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger; `response_id` is empty where we never learned the vendor's name for the
    call."""

    event_id: str
    owner: str
    at: float
    request_id: str
    response_id: str
    outcome: str
    source: str
    cost_microusd: int | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An answer that a user has in hand whole, and what they were told it cost."""

    request_id: str
    owner: str
    at: float
    cost_microusd: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be, and when it began."""

    kind: str  # `lost`, `double`, `wrong`
    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Account:
    """What the comparison came to."""

    served: int
    entries: int
    findings: Sequence[Finding]
    estimates: Sequence[Entry]

    def count(self, kind: str) -> int:
        """How many findings of a kind."""
        return sum(finding.kind == kind for finding in self.findings)

    @property
    def is_exact(self) -> bool:
        """Whether nothing is lost, double or wrong."""
        return not self.findings


def reconcile(
    served: Sequence[Served], entries: Sequence[Entry], told: Sequence[Acknowledged]
) -> Account:
    """Hold the vendors' lists, the ledger and what users were told against each other."""
    named = {entry.response_id: entry for entry in entries if entry.response_id}
    nameless = _nameless(entries)
    findings = [
        *_named_twice(entries),
        *_never_served(named.values(), served),
        *_unpaid(served, named, nameless),
        *_differing(served, named),
        *_untold(entries, told),
    ]
    # What is left of the nameless ones stands for no served call.
    left = [entry for entries_of in nameless.values() for entry in entries_of]
    findings += _without_ground(left)
    estimates = [entry for entry in entries if entry.outcome == "replica_lost" or entry in left]
    return Account(len(served), len(entries), findings, estimates)


def _nameless(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if not entry.response_id:
            found[entry.owner].append(entry)
    return found


def _named_twice(entries: Sequence[Entry]) -> Iterator[Finding]:
    counts = Counter(entry.response_id for entry in entries if entry.response_id)
    for entry in entries:
        if counts[entry.response_id] > 1 and entry.response_id:
            counts[entry.response_id] -= 1
            yield Finding("double", entry.at, f"{entry.response_id} stands in the ledger again")


def _never_served(entries: Iterable[Entry], served: Sequence[Served]) -> Iterator[Finding]:
    known = {call.response_id for call in served}
    for entry in entries:
        if entry.response_id not in known:
            yield Finding("double", entry.at, f"{entry.response_id} was never served")


def _unpaid(
    served: Sequence[Served], named: Mapping[str, Entry], nameless: Mapping[str, list[Entry]]
) -> Iterator[Finding]:
    for call in served:
        if call.response_id in named:
            continue
        of_owner = nameless.get(call.owner, [])
        if not of_owner:
            yield Finding("lost", call.at, f"{call.response_id} stands in no entry")
            continue
        nearest = min(of_owner, key=lambda entry: abs(entry.at - call.at))
        of_owner.remove(nearest)


def _without_ground(left: Iterable[Entry]) -> Iterator[Finding]:
    for entry in left:
        if entry.outcome not in ESTIMATED_OUTCOMES or entry.source == "provider":
            yield Finding(
                "double", entry.at, f"{entry.event_id} ({entry.outcome}) stands for no served call"
            )


def _differing(served: Sequence[Served], named: Mapping[str, Entry]) -> Iterator[Finding]:
    for call in served:
        entry = named.get(call.response_id)
        if entry is None or entry.source != "provider" or not call.whole:
            continue
        for name in TOKENS:
            got, wanted = entry.usage.get(name, 0), call.usage.get(name, 0)
            if got != wanted:
                yield Finding("wrong", entry.at, f"{call.response_id}: {name} {got}, not {wanted}")


def _untold(entries: Sequence[Entry], told: Sequence[Acknowledged]) -> Iterator[Finding]:
    """Whole answers are entries with the same request, once, and cost what users were told."""
    done: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.outcome == "done":
            done[entry.request_id].append(entry)
    for answer in told:
        found = done.get(answer.request_id, [])
        if not found:
            yield Finding("lost", answer.at, f"the answer to {answer.request_id} is in no entry")
        elif len(found) > 1:
            yield Finding("double", answer.at, f"{answer.request_id} is in {len(found)} entries")
        elif answer.cost_microusd is not None and answer.cost_microusd != found[0].cost_microusd:
            yield Finding("wrong", answer.at, f"{answer.request_id} costs other than was told")
