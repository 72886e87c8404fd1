"""What a user may be told while something is broken, and what never."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib import import_module

from deploy.envoy.problems import EGRESS_REPLIES, GATEWAY_REPLIES
from shared.errors import ExpectedFailure
from shared.values import dataclass

ANSWER_SECONDS = 45.0
"""Nothing may take longer: a vendor is asked again for 30 s at most (CHAT_RETRY_SECONDS)."""

PROBLEM = "application/problem+json"

_WITH_CODES = (
    *(f"services.{service}.domain.errors" for service in ("chat", "voice", "keyvault", "billing")),
    "shared.idempotency",
    "shared.vendors.failures",
)
# Statuses that say "not now": the others of the documented ones would blame the request.
_NOT_NOW = frozenset({409, 429, 502, 503, 504})
_WITH_RETRY_AFTER = frozenset({429, 503})
# A turn of before is still open here: its replica is gone, and the sweeper settles it.
_WAITS = frozenset({"request_in_progress", "turn_running"})
# What is kept of a turn: whoever repeats it hears the same.
_KEPT = frozenset({"answer_lost", "already_spoken"})


class Kind(StrEnum):
    """How one try to get an answer ended."""

    ANSWERED = "answered"
    BROKEN_OFF = "broken off"  # and told so, with a code
    REFUSED = "refused"
    CUT = "cut"  # the answer had begun, and its connection ended
    NO_ANSWER = "no answer"  # the connection ended before any answer
    HUNG = "hung"
    WRONG = "wrong"  # a whole answer, but to another question


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a turn: when, and what the user was told. Times are seconds since the epoch."""

    turn: int
    tier: str
    way: str
    began: float
    ended: float
    kind: Kind
    status: int = 0
    code: str = ""
    media_type: str = ""
    retry_after: float | None = None
    request_id: str = ""
    replayed: bool = False
    cost_microusd: int | None = None

    @property
    def failed(self) -> bool:
        """Whether the user has something to complain about."""
        return self.kind is not Kind.ANSWERED

    @property
    def waits(self) -> bool:
        """Whether it only learned that its turn of before is not settled yet."""
        return self.kind is Kind.REFUSED and self.status == 409 and self.code in _WAITS

    @property
    def is_last_word(self) -> bool:
        """Whether it is a documented end of the turn, which stays when it is tried again."""
        return self.kind is Kind.BROKEN_OFF or (self.kind is Kind.REFUSED and self.code in _KEPT)

    @property
    def label(self) -> str:
        """The failure in short."""
        if self.kind is Kind.REFUSED:
            return f"{self.status} {self.code}"
        return f"{self.kind} {self.code}".strip()


def broken_promise(attempt: Attempt, *, may_cut: bool) -> str:
    """What is wrong with it, or nothing. `may_cut`: a process died that held connections."""
    match attempt.kind:
        case Kind.ANSWERED:
            return ""
        case Kind.CUT | Kind.NO_ANSWER:
            return "" if may_cut else f"{attempt.way}: {attempt.kind}"
        case Kind.HUNG | Kind.WRONG:
            return f"{attempt.way}: {attempt.kind}"
        case Kind.BROKEN_OFF:
            return _unless(attempt.code in documented_codes(), attempt, "unknown code")
        case Kind.REFUSED:
            return _refusal_fault(attempt)


def _refusal_fault(attempt: Attempt) -> str:
    if attempt.status not in _NOT_NOW:
        return _unless(False, attempt, "not a status for trouble of ours")
    if attempt.media_type != PROBLEM or attempt.code not in documented_codes():
        return _unless(False, attempt, "no problem document with a documented code")
    return _unless(
        attempt.retry_after is not None
        or attempt.status not in _WITH_RETRY_AFTER
        or attempt.is_last_word,
        attempt,
        "without Retry-After",
    )


def _unless(good: bool, attempt: Attempt, why: str) -> str:
    return "" if good else f"{attempt.way}: {attempt.label}: {why}"


@cache
def documented_codes() -> frozenset[str]:
    """Every code that a client may meet: of the services' families and of the two proxies."""
    for module in _WITH_CODES:
        import_module(module)
    ours = {kind.code for kind in _below(ExpectedFailure) if hasattr(kind, "code")}
    return frozenset(ours | {reply.code for reply in (*GATEWAY_REPLIES, *EGRESS_REPLIES)})


def _below(kind: type[ExpectedFailure]) -> Iterator[type[ExpectedFailure]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def media_type_of(headers: Mapping[str, str]) -> str:
    """The content type without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()
