"""Reading both books: the vendors' list of what they served, and billing's ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

from deploy.proof.answers import Attempt, Kind
from deploy.proof.people import Person
from deploy.proof.reconcile import TOKENS, Account, Acknowledged, Entry, Served, reconcile

_DIGEST_LENGTH = 16  # of the vendors' stand-in, which keeps no keys

_ENTRIES = f"""
select event_id, user_id, provider, request_id, provider_request_id, outcome, source,
       cost_microusd, occurred_at, {", ".join(TOKENS)}
from ledger_entry where not cached
"""  # noqa: S608 - made of constants

_OPEN = {
    "chat": "select count(*) as n from generation where state = 'running'",
    "voice": "select count(*) as n from speech where outcome is null",
    "billing": "select (select count(*) from ledger_unlinked)"
    " + (select count(*) from ledger_unlinked_of_organisation)"
    " + (select count(*) from ledger_uncounted) as n",
}


class Books(Protocol):
    """Whoever can look into a service's database, and ask the simulated vendors."""

    def rows(self, service: str, sql: str) -> Sequence[Mapping[str, Any]]:
        """What stands in a service's database."""
        ...

    def served(self) -> Sequence[Mapping[str, Any]]:
        """Every call that was to generate something."""
        ...


def open_work(books: Books) -> Mapping[str, int]:
    """What is not settled yet: running turns, running speeches, entries without their link."""
    return {service: int(books.rows(service, sql)[0]["n"]) for service, sql in _OPEN.items()}


def account(books: Books, people: Sequence[Person], attempts: Sequence[Attempt]) -> Account:
    """Hold the books against each other, for these people."""
    owners = {_digest(key): person.id for person in people for key in person.api_keys.values()}
    users = {person.id for person in people}
    vendors = {_digest(key): vendor for p in people for vendor, key in p.api_keys.items()}
    served = [
        _served(row, f"{owners[row['key_sha256']]} {vendors[row['key_sha256']]}")
        for row in books.served()
        if row["key_sha256"] in owners and row["response_id"] and row["status"] in (0, 200)
    ]
    entries = [
        _entry(row) for row in books.rows("billing", _ENTRIES) if str(row["user_id"]) in users
    ]
    return reconcile(served, entries, acknowledged(attempts))


def acknowledged(attempts: Sequence[Attempt]) -> list[Acknowledged]:
    """The answers that users hold whole. One that is told again stands in the ledger under the
    request that it was first given to."""
    return [
        Acknowledged(a.request_id, a.tier, a.began, a.cost_microusd)
        for a in attempts
        if a.kind is Kind.ANSWERED and not a.replayed
    ]


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:_DIGEST_LENGTH]


def _served(row: Mapping[str, Any], owner: str) -> Served:
    usage = dict(row["usage"])
    # ElevenLabs charges credits, which are characters of the model's price.
    if "credits" in usage:
        usage["characters"] = usage["credits"]
    return Served(
        row["response_id"], owner, row["started_at"], row["outcome"] == "completed", usage
    )


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        event_id=str(row["event_id"]),
        owner=f"{row['user_id']} {row['provider']}",
        at=_moment(row["occurred_at"]),
        request_id=row["request_id"],
        response_id=row["provider_request_id"] or "",
        outcome=row["outcome"],
        source=row["source"],
        cost_microusd=row["cost_microusd"],
        usage={name: int(row[name]) for name in TOKENS},
    )


def _moment(value: Any) -> float:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.timestamp()
