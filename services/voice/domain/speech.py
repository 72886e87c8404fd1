"""A speech: the hold on a paid call, and exactly one terminal record of it."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType
from uuid import UUID

from services.voice.domain.script import VENDOR, Script
from services.voice.domain.speech_model import speech_model
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import EventId, UserId, uuid7
from shared.values import dataclass

SpeechId = NewType("SpeechId", UUID)


class Outcome(StrEnum):
    """How a speech ended. `refused`: the vendor declined before any work, so nothing was used."""

    DONE = "done"
    STOPPED = "stopped"
    CLIENT_GONE = "client_gone"
    PROVIDER_FAILED = "provider_failed"
    REPLICA_LOST = "replica_lost"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Hold:
    """Written before the vendor is called. Its event id is the usage's identity: whoever settles
    it, and however often, the ledger sees one entry."""

    user_id: UserId
    request_id: str
    tier: str
    voice_id: str
    model: str
    format: str
    characters: int
    created_at: datetime
    lease_expires_at: datetime
    asked_characters: int | None = None  # of a long one, said in parts; None: all of them
    sandbox: bool = False
    cached: bool = False  # it was said before, so nobody is asked
    provider: str = VENDOR
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    session_id: UUID | None = None  # of chat, whose answer it speaks
    id: SpeechId = field(default_factory=lambda: SpeechId(uuid7()))
    usage_event_id: EventId = field(default_factory=lambda: EventId(uuid7()))


@dataclass(frozen=True, slots=True)
class Used:
    """How many characters a vendor charged, and who says so."""

    characters: int
    source: Literal["provider", "counted"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The one terminal record of a speech. `used` is None when there is nothing to charge."""

    outcome: Outcome
    used: Used | None
    provider_request_id: str | None = None
    # The organisation on whose key it was spoken, where that was told.
    key_organisation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class SpeechRecord:
    """A speech as its user may look back on it; no outcome while it runs."""

    id: SpeechId
    provider: str
    voice_id: str
    model: str
    format: str
    characters: int
    outcome: str | None
    charged_characters: int | None
    request_id: str
    created_at: datetime
    settled_at: datetime | None


def used_by(script: Script, vendors_count: int | None) -> Used:
    """The vendor's own count where it told one, since that is what the user pays there, else what
    its model costs. All of the script counts however much of it was heard: the vendor charges when
    it is asked."""
    if vendors_count is not None:
        return Used(vendors_count, "provider")
    return Used(speech_model(script.model).cost(script.characters), "counted")


def settlement_of_lost(hold: Hold) -> Settlement:
    """For a hold whose replica died: what the vendor had been asked for counts."""
    asked = hold.characters if hold.asked_characters is None else hold.asked_characters
    cost = speech_model(hold.model).cost(asked)
    return Settlement(Outcome.REPLICA_LOST, Used(cost, "counted"))


def usage_fact(hold: Hold, settlement: Settlement) -> Fact[UsageRecorded] | None:
    """What billing is told; None when there is nothing to charge."""
    if settlement.used is None or settlement.outcome is Outcome.REFUSED:
        return None
    event = UsageRecorded(
        user_id=hold.user_id,
        operation="voice",
        provider=hold.provider,
        model=hold.model,
        source=settlement.used.source,
        outcome=settlement.outcome.value,
        characters=settlement.used.characters,
        request_id=hold.request_id,
        provider_request_id=settlement.provider_request_id,
        session_id=hold.session_id,
        sandbox=hold.sandbox,
        cached=hold.cached,
        key_organisation_id=settlement.key_organisation_id,
    )
    return Fact(
        event=event,
        subject=hold.user_id,
        tier=hold.tier,
        id=hold.usage_event_id,
        time=hold.created_at,
        source="voice",
        request_id=hold.request_id,
    )
