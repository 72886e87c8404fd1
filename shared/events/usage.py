"""`usage.*`: what was used, and how a consumer finds out that it has seen all of it."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.events.base import Event

Operation = Literal["chat", "voice", "screenshot"]
Source = Literal["provider", "counted", "estimated"]
Outcome = Literal["done", "stopped", "client_gone", "provider_failed", "replica_lost"]


class UsageRecorded(Event):
    """One paid call to a vendor, whatever became of it. The event's id is the usage's identity.

    Token classes are those of `genai-prices`: `input_tokens` is the total and includes the cached
    ones, `output_tokens` includes reasoning. `source` tells who counted: the vendor, we, or nobody.
    """

    type = "usage.recorded"

    user_id: UUID
    operation: Operation
    provider: str
    model: str
    source: Source
    outcome: Outcome
    input_tokens: int = Field(0, ge=0)
    cache_read_tokens: int = Field(0, ge=0)
    cache_write_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0)
    output_reasoning_tokens: int = Field(0, ge=0)
    characters: int = Field(0, ge=0)
    service_tier: str | None = None
    request_id: str
    provider_request_id: str | None = None
    session_id: UUID | None = None
    sandbox: bool = False


class UsageManifest(Event):
    """How far a producer's streams have come, so that a consumer sees a loss at the tail too."""

    type = "usage.manifest"

    producer: str
    stream: str
    epoch: UUID
    last_sequence: int = Field(ge=0)


class UsageReplayRequested(Event):
    """A consumer misses a range of a producer's stream; the producer sends it again."""

    type = "usage.replay_requested"

    producer: str
    stream: str
    epoch: UUID
    first_sequence: int = Field(ge=1)
    last_sequence: int = Field(ge=1)
