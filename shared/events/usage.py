"""`usage.*`: what was used, and how a consumer finds out that it has seen all of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.events.base import Event

Operation = Literal["chat", "voice", "screenshot"]
Source = Literal["provider", "counted", "estimated"]
Outcome = Literal[
    "done", "content_blocked", "stopped", "client_gone", "provider_failed", "replica_lost"
]

# A counter beyond this is broken: the largest contexts are some ten million tokens. The bound keeps
# every cost within 64 bits, at any price that billing's price book accepts.
MOST_UNITS = 10**12
LONGEST_TEXT = 300


def _cut(said: str) -> str:
    return said[:LONGEST_TEXT]


Count = Annotated[int, Field(ge=0, le=MOST_UNITS)]
Name = Annotated[str, AfterValidator(_cut)]
"""What something is called. A vendor or a proxy of one may have a longer name for it: that is no
reason to lose the usage, nor was it one for what was told before names were cut."""


class UsageRecorded(Event):
    """One paid call to a vendor, whatever became of it. The event's id is the usage's identity.

    Token classes are those of `genai-prices`: `input_tokens` is the total and includes the cached
    ones, `output_tokens` includes reasoning. `source` tells who counted: the vendor, we, or nobody.
    Its bounds are the ledger's: what that refused would be lost for good, since no event changes.
    """

    type = "usage.recorded"
    # A message costs its worker some milliseconds whatever it carries, and nobody waits for this.
    may_wait = timedelta(milliseconds=500)

    user_id: UUID
    operation: Operation
    provider: Name
    model: Name
    source: Source
    outcome: Outcome
    input_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    output_tokens: Count = 0
    output_reasoning_tokens: Count = 0
    characters: Count = 0
    service_tier: Name | None = None
    request_id: Name
    provider_request_id: Name | None = None
    session_id: UUID | None = None
    sandbox: bool = False
    # Answered from what the user had before: no vendor was asked, so nothing was used.
    cached: bool = False
    # The organisation whose key at the vendor it ran on, as keyvault told it. None: on a key of the
    # user's own, on none, or nobody told.
    key_organisation_id: UUID | None = None


class UsageReported(Event):
    """A service outside the suite told what was used, and it stands in the ledger now. The event's
    id is the entry's there. For who reads the export queue; of ours nobody needs it."""

    type = "usage.reported"
    needs_listener = False
    may_wait = timedelta(milliseconds=500)

    user_id: UUID
    meter: str
    model: str
    units: int = Field(ge=1)
    unit: str
    occurred_at: datetime
    # Who told it, and what it is called there.
    reported_source: str
    reported_id: str
    request_id: str | None = None
    session_id: UUID | None = None
    sandbox: bool = False


class UsageSums(BaseModel):
    """What lies in a stream, added up. `ids` is the exclusive or of the ids' digests (MD5, as 32
    hexadecimal digits): equal sums over other events show there."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    events: int = Field(ge=0)
    input_tokens: int = Field(0, ge=0)
    cache_read_tokens: int = Field(0, ge=0)
    cache_write_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0)
    output_reasoning_tokens: int = Field(0, ge=0)
    characters: int = Field(0, ge=0)
    ids: str = Field(pattern=r"^[0-9a-f]{32}$")


class UsageManifest(Event):
    """How far a producer's streams have come, so that a consumer sees a loss at the tail too.

    With an `hour` it also says what happened in that hour of its clock, which is over; said again
    it takes the place of what was said before.
    """

    type = "usage.manifest"

    producer: str
    stream: str
    epoch: UUID
    last_sequence: int = Field(ge=0)
    hour: datetime | None = None
    sums: UsageSums | None = None


class UsageReplayRequested(Event):
    """A consumer misses a range of a producer's stream; the producer sends it again."""

    type = "usage.replay_requested"

    producer: str
    stream: str
    epoch: UUID
    first_sequence: int = Field(ge=1)
    last_sequence: int = Field(ge=1)


class UsageVoided(Event):
    """A call that was reported is not to be charged at all. The event's id is the correction's
    identity; what it refers to is never edited."""

    type = "usage.voided"

    user_id: UUID
    event_id: UUID
    reason: str = Field(min_length=1, max_length=300)


class UsageAdjusted(Event):
    """A call that was reported was another amount: what is added to its numbers, or taken away."""

    type = "usage.adjusted"

    user_id: UUID
    event_id: UUID
    reason: str = Field(min_length=1, max_length=300)
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    characters: int = 0
    cost_microusd: int = 0
