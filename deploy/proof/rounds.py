"""One round for each fault: what users noticed of it, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import field

from deploy.proof.answers import Attempt, broken_promise
from deploy.proof.reconcile import Account
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a fault may cost users at most."""

    errors: int | None = None  # None: as many as come while it lasts, each with a documented code
    recovery_seconds: float = 20.0
    may_cut: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """When a fault was there: made at `struck`, taken away again at `lifted`. Times are seconds
    since the epoch; `began` and `ended` mark what belongs to it."""

    name: str
    bounds: Bounds
    began: float
    struck: float
    lifted: float
    ended: float
    healthy: float | None = None  # when all containers were healthy again

    def holds(self, moment: float) -> bool:
        """Whether something that began then belongs to this round."""
        return self.began <= moment < self.ended


@dataclass(frozen=True, slots=True)
class Figures:
    """A line of the result."""

    name: str
    turns: int
    answered: int
    errors: Counter[str]
    waiting: int  # tries that were told to wait for the settlement of a lost turn
    slowest_seconds: float
    recovery_seconds: float
    lost: int
    double: int
    wrong: int
    estimates: int
    broken: Sequence[str] = field(default_factory=tuple)  # which bounds, in words


def figures(round_: Round, attempts: Sequence[Attempt], account: Account) -> Figures:
    """What came of a round."""
    ours = [attempt for attempt in attempts if round_.holds(attempt.began)]
    failed = [attempt for attempt in ours if attempt.failed and not attempt.waits]
    errors = Counter(attempt.label for attempt in failed)
    recovery = max((attempt.began - round_.lifted for attempt in failed), default=0.0)
    found = [finding for finding in account.findings if round_.holds(finding.at)]
    counts = Counter(finding.kind for finding in found)
    return Figures(
        name=round_.name,
        turns=len({attempt.turn for attempt in ours}),
        answered=len({attempt.turn for attempt in ours if not attempt.failed}),
        errors=errors,
        waiting=sum(attempt.waits for attempt in ours),
        slowest_seconds=max((attempt.ended - attempt.began for attempt in ours), default=0.0),
        recovery_seconds=max(0.0, recovery),
        lost=counts["lost"],
        double=counts["double"],
        wrong=counts["wrong"],
        estimates=sum(round_.holds(entry.at) for entry in account.estimates),
        broken=(
            *_broken_promises(ours, round_.bounds),
            *_broken_bounds(round_.bounds, errors, recovery),
            *(finding.what for finding in found),
        ),
    )


def _broken_promises(attempts: Sequence[Attempt], bounds: Bounds) -> list[str]:
    wrong = Counter(
        fault
        for attempt in attempts
        if not attempt.waits and (fault := broken_promise(attempt, may_cut=bounds.may_cut))
    )
    return [f"{fault} ({count})" for fault, count in wrong.items()]


def _broken_bounds(bounds: Bounds, errors: Counter[str], recovery: float) -> list[str]:
    broken = []
    if bounds.errors is not None and errors.total() > bounds.errors:
        broken.append(f"{errors.total()} errors, {bounds.errors} at most")
    if recovery > bounds.recovery_seconds:
        broken.append(f"recovered after {recovery:.1f} s, {bounds.recovery_seconds:.0f} s at most")
    return broken


def unfinished(attempts: Sequence[Attempt]) -> int:
    """Turns whose last word was still no answer and no documented failure of the vendor's."""
    last = {attempt.turn: attempt for attempt in sorted(attempts, key=lambda a: a.began)}
    return sum(attempt.failed and not attempt.is_last_word for attempt in last.values())
