"""An event, its envelope, and the catalogue that fills itself."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared.ids import EventId, uuid7
from shared.values import dataclass

E = TypeVar("E", bound="Event")
M = TypeVar("M", bound=BaseModel)

CATALOGUE: dict[str, type[Event]] = {}

# Set by the doors, so that a fact remembers which request it came from.
current_request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "request_id", default=None
)
current_traceparent: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "traceparent", default=None
)


class Event(BaseModel):
    """Something that happened, named in the past tense.

    Once published, a type only gains optional fields; anything else is a new major version. Unknown
    fields are ignored, so that an old consumer reads a newer producer. Never a secret in here.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    type: ClassVar[str]
    version: ClassVar[int] = 1
    # Whether a publish that reaches no queue is an error. False for facts that nobody may need yet.
    needs_listener: ClassVar[bool] = True
    # How long the relay may wait for more of the kind, so that one message carries many.
    may_wait: ClassVar[timedelta] = timedelta(0)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.type in CATALOGUE:
            raise TypeError(f"event type {cls.type!r} is declared twice")
        CATALOGUE[cls.type] = cls


class _Envelope(BaseModel):
    """What a reader asks of an envelope before it looks at the data."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    specversion: Literal["1.0"]
    id: UUID
    source: str = Field(max_length=100)
    type: str = Field(max_length=100)
    subject: UUID
    time: AwareDatetime
    dataschema: str = Field(max_length=200)
    tier: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")
    correlationid: str | None = Field(None, max_length=200)
    traceparent: str | None = Field(None, max_length=200)
    producerepoch: UUID | None = None
    producerseq: int | None = Field(None, ge=1, strict=True)
    data: Any


class UnreadableEvent(Exception):
    """An envelope that this version of the suite can't read; it goes to the dead events."""


@dataclass(frozen=True, slots=True)
class Fact(Generic[E]):
    """An event with everything the envelope says about it.

    `epoch` and `sequence` are given by the relay: within one producer, stream and epoch, sequence
    numbers count 1, 2, 3 … without a gap, so that a consumer can see what it did not get.
    """

    event: E
    subject: UUID  # whom it is about: the user's id
    tier: str  # which queue carries it
    id: EventId = field(default_factory=lambda: EventId(uuid7()))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: str = ""
    request_id: str | None = field(default_factory=current_request_id.get)
    traceparent: str | None = field(default_factory=current_traceparent.get)
    epoch: UUID | None = None
    sequence: int | None = None

    @property
    def stream(self) -> str:
        """The routing key, and what sequence numbers count along."""
        return f"{self.event.type}.{self.tier}"

    def sent_as(self, epoch: UUID, sequence: int) -> Fact[E]:
        """The same fact with its place in the producer's stream."""
        return replace(self, epoch=epoch, sequence=sequence)

    def to_wire(self) -> dict[str, Any]:
        """The CloudEvents 1.0 JSON form (https://github.com/cloudevents/spec), attributes that are
        absent left out."""
        wire: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(self.id),
            "source": self.source,
            "type": self.event.type,
            "subject": str(self.subject),
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "dataschema": _schema_of(self.event),
            "tier": self.tier,
            "correlationid": self.request_id,
            "traceparent": self.traceparent,
            "producerepoch": str(self.epoch) if self.epoch else None,
            "producerseq": self.sequence,
            "data": self.event.model_dump(mode="json"),
        }
        return {name: value for name, value in wire.items() if value is not None}

    @staticmethod
    def from_wire(wire: Mapping[str, Any]) -> Fact[Event]:
        """Read an envelope.

        Raises UnreadableEvent for an unknown type or major version, or data off its schema.
        """
        envelope = _read(_Envelope, wire, "envelope")
        event_class = CATALOGUE.get(envelope.type)
        if event_class is None:
            raise UnreadableEvent("unknown type")
        if envelope.dataschema != _schema_of(event_class):
            raise UnreadableEvent(f"unknown schema of {envelope.type}")
        return Fact(
            event=_read(event_class, envelope.data, "data"),
            subject=envelope.subject,
            tier=envelope.tier,
            id=EventId(envelope.id),
            time=envelope.time,
            source=envelope.source,
            request_id=envelope.correlationid,
            traceparent=envelope.traceparent,
            epoch=envelope.producerepoch,
            sequence=envelope.producerseq,
        )


def _schema_of(event: Event | type[Event]) -> str:
    return f"urn:companion:event:{event.type}:{event.version}"


def _read(model: type[M], value: Any, name: str) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, found["loc"])) for found in error.errors())
        raise UnreadableEvent(f"{name} off its schema at: {places}") from error
