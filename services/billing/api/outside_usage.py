"""`/billing/usage/events`: usage that services outside the suite tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    field_validator,
)
from starlette.datastructures import Headers

from services.billing.actions.report_outside_usage import ReportResult, Told
from services.billing.api.dependencies import ServiceActions
from services.billing.api.event_headers import attributes_in
from services.billing.domain.errors import TooManyReports, UsageNotReadable
from services.billing.domain.outside_usage import MOST_METADATA_BYTES, OutsideEvent, Trouble
from shared.http.caller import Caller, Holding
from shared.http.problems import problems
from shared.ids import UserId
from shared.limits.local import LocalLimit
from shared.scopes import USAGE_WRITE

router = APIRouter(prefix="/billing", tags=["usage"])

MOST_EVENTS = 500
EVENT_TYPE = "usage.reported"
REPORTS_A_MINUTE = 600

# What nobody can count is kept as it was told, in a row of moderate size.
_MOST_DIGITS = 1_000
# Python reads no longer ones as a whole number.
_MOST_DIGITS_READ = 4_000

_SINGLE = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_JSON = "application/json"
_OF_JSON = "+json"
_TEXT = r"^[\x20-\x7E\u00A0-\uD7FF\uE000-\uFFFD]+$"

# Per replica: it keeps a program that runs wild off the database, and is no limit of usage.
_reports = LocalLimit()

MetadataName = Annotated[str, StringConstraints(min_length=1, max_length=100)]

Reporter = Annotated[Caller, Depends(Holding(USAGE_WRITE))]


class UsageData(BaseModel):
    """What was used. Fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore")

    meter: str = Field(min_length=1, max_length=100, pattern=_TEXT, examples=["screenshot"])
    quantity: Decimal = Field(
        max_digits=_MOST_DIGITS,
        allow_inf_nan=False,
        description="A whole number, also as a string.",
    )
    unit: str | None = Field(None, max_length=50, pattern=_TEXT)
    model: str | None = Field(None, min_length=1, max_length=100, pattern=_TEXT)
    request_id: str | None = Field(None, min_length=1, max_length=200, pattern=_TEXT)
    session_id: UUID | None = None
    sandbox: bool = Field(False, strict=True)
    metadata: dict[MetadataName, StrictStr | StrictBool | StrictInt | float] | None = Field(
        None,
        max_length=50,
        description="What else you want to find with the record: one flat object of texts, numbers"
        f" and booleans, {MOST_METADATA_BYTES} bytes of JSON at most. Nobody counts by it.",
    )

    @field_validator("metadata")
    @classmethod
    def _fits(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            # Neither NaN nor an infinity, half of a pair or a NUL is anything that JSON keeps.
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
            if len(text.encode()) > MOST_METADATA_BYTES or "\\u0000" in text:
                raise ValueError("too large")
        return value

    @field_validator("quantity", mode="before")
    @classmethod
    def _no_other_type(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
            raise ValueError("no number")
        return str(value)


class UsageEvent(BaseModel):
    """A CloudEvent 1.0 (https://github.com/cloudevents/spec); other attributes are ignored."""

    model_config = ConfigDict(extra="ignore")

    specversion: str = Field(pattern=r"^1\.0$")
    id: str = Field(min_length=1, max_length=200, pattern=_TEXT)
    source: str = Field(min_length=1, max_length=100, pattern=_TEXT, examples=["/screenshots"])
    type: str = Field(pattern=rf"^{EVENT_TYPE.replace('.', '[.]')}$", examples=[EVENT_TYPE])
    subject: UUID = Field(description="The id of the user who used it.")
    # Any time that can be kept, and said in UTC; whether it can be right is decided further inside.
    time: AwareDatetime = Field(
        ge=datetime(2, 1, 1, tzinfo=UTC),
        lt=datetime(9999, 1, 1, tzinfo=UTC),
        description="When it was used.",
    )
    data: UsageData

    def to_domain(self, reporter: UserId) -> OutsideEvent:
        data = self.data
        return OutsideEvent(
            reporter=reporter,
            source=self.source,
            external_id=self.id,
            user_id=UserId(self.subject),
            occurred_at=self.time,
            meter=data.meter,
            quantity=data.quantity,
            unit=data.unit,
            model=data.model,
            request_id=data.request_id,
            session_id=data.session_id,
            sandbox=data.sandbox,
            metadata=data.metadata or None,
        )


class NotCounted(BaseModel):
    """An event that was not counted, by its place in the report, and why."""

    index: int
    id: str | None
    code: str
    detail: str


class ReportBody(BaseModel):
    """What became of a report. `duplicates` were counted before; `held` are kept until they are
    told again, well; `rejected` are not kept."""

    accepted: int
    duplicates: int
    held: list[NotCounted]
    rejected: list[NotCounted]

    @classmethod
    def of(cls, result: ReportResult, unreadable: Sequence[NotCounted]) -> ReportBody:
        rejected = [*unreadable, *(_not_counted(*one) for one in result.rejected)]
        return cls(
            accepted=result.accepted,
            duplicates=result.duplicates,
            held=[_not_counted(*one) for one in result.held],
            rejected=sorted(rejected, key=lambda one: one.index),
        )


def _schema() -> dict[str, Any]:
    """Of one event, in one piece: FastAPI knows nothing of it, so there is nowhere to refer to."""
    schema = UsageEvent.model_json_schema()
    schema["properties"]["data"] = schema.pop("$defs")["UsageData"]
    return schema


_MANY = {"type": "array", "minItems": 1, "maxItems": MOST_EVENTS, "items": _schema()}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            _SINGLE: {"schema": _schema()},
            _BATCH: {"schema": _MANY},
            _JSON: {"schema": {"anyOf": [_MANY, UsageData.model_json_schema()]}},
        },
    }
}


@router.post(
    "/usage/events",
    status_code=202,
    responses=problems(401, 413, 429, _403="scope_missing", _422="usage_not_readable"),
    openapi_extra=_BODY,
)
async def report_outside_usage(
    request: Request, actions: ServiceActions, reporter: Reporter
) -> ReportBody:
    """Tell what was used outside the suite: one CloudEvent, or up to 500. Needs the scope
    `usage:write`. Telling the same again changes nothing; each event says what became of it.

    In CloudEvents' binary mode (`ce-specversion`, `ce-id`, `ce-source`, `ce-type`, `ce-subject`,
    `ce-time` as headers) the body is the event's `data`, as JSON."""
    identity = reporter.identity
    if not _reports.take(str(identity.user_id), REPORTS_A_MINUTE):
        raise TooManyReports(REPORTS_A_MINUTE, timedelta(seconds=60))
    events = _events_in(await request.body(), request.headers)
    told, unreadable = _read(events, identity.user_id)
    result = await actions.report_outside_usage(
        told, reporter=identity.user_id, for_anybody=identity.is_program
    )
    return ReportBody.of(result, unreadable)


def _events_in(body: bytes, headers: Headers) -> Sequence[Any]:
    """Raises UsageNotReadable."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_whole = media_type in (_SINGLE, _BATCH)
    attributes = None if is_whole else attributes_in(headers)
    is_of_json = media_type == _JSON or (attributes is not None and media_type.endswith(_OF_JSON))
    if not is_whole and not is_of_json:
        raise UsageNotReadable(f"Send {_SINGLE}, {_BATCH} or {_JSON}.")
    found = _json_in(body)
    if attributes is not None:
        return [{**attributes, "data": found}]
    if media_type == _SINGLE or isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list):
        raise UsageNotReadable("A batch is a list of events.")
    if not 1 <= len(found) <= MOST_EVENTS:
        raise UsageNotReadable(f"A batch carries 1 to {MOST_EVENTS} events.")
    return found


def _json_in(body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=_number, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise UsageNotReadable("The body can't be read as JSON.") from error


def _number(text: str) -> Decimal | float:
    """With all its digits. What is beyond any decimal is an infinity or nothing, as of a float."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return float(text)


def _whole_number(text: str) -> int | Decimal | float:
    return int(text) if len(text) <= _MOST_DIGITS_READ else _number(text)


def _read(events: Sequence[Any], reporter: UserId) -> tuple[list[Told], list[NotCounted]]:
    told, unreadable = [], []
    for index, event in enumerate(events):
        try:
            read = UsageEvent.model_validate(event)
        except ValidationError as error:
            unreadable.append(_unreadable(index, event, error))
            continue
        told.append(Told(index, read.to_domain(reporter), read.model_dump(mode="json")))
    return told, unreadable


def _unreadable(index: int, event: Any, error: ValidationError) -> NotCounted:
    places = ", ".join(sorted({".".join(map(str, e["loc"])) or "event" for e in error.errors()}))
    id_ = event.get("id") if isinstance(event, Mapping) else None
    return NotCounted(
        index=index,
        id=_writable(id_[:200]) if isinstance(id_, str) else None,
        code="event_not_readable",
        detail=f"Not as documented: {places}.",
    )


def _writable(text: str) -> str:
    # JSON can spell half of a surrogate pair, and no answer can be written with one.
    return text.encode("utf-8", "replace").decode()


def _not_counted(told: Told, trouble: Trouble) -> NotCounted:
    return NotCounted(
        index=told.index, id=told.event.external_id, code=trouble.code, detail=trouble.detail
    )
