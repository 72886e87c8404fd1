"""THE table from a family of failure to a status, and the problem document (RFC 9457)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from shared import errors
from shared.clock import rfc3339
from shared.events.base import current_request_id
from shared.http.dollars import in_dollars
from shared.http.ratelimit import rate_limit_headers
from shared.lenient_json import to_json

log = structlog.get_logger(__name__)

STATUS: Mapping[type[errors.ExpectedFailure], tuple[int, str]] = {
    errors.Invalid: (422, "The request is not valid"),
    errors.TooLarge: (413, "The request is too large"),
    errors.Unauthenticated: (401, "Sign in first"),
    errors.NotInTier: (402, "Your tier does not include this"),
    errors.PaymentRequired: (402, "Pay for this first"),
    errors.Forbidden: (403, "This is not allowed"),
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "The state does not allow this"),
    errors.LimitReached: (429, "A limit is reached"),
    errors.UpstreamFailed: (502, "The vendor failed"),
    errors.Unavailable: (503, "The service is in trouble"),
}

PLAIN = {
    400: ("malformed_request", "The request can't be read"),
    404: ("route_not_found", "Not found"),
    405: ("method_not_allowed", "This method is not allowed here"),
    413: ("too_large", "The request is too large"),
    415: ("unsupported_media_type", "This media type is not accepted"),
}

PROBLEM = "application/problem+json"

vendor_failed: ContextVar[bool] = ContextVar("vendor_failed", default=False)
"""Whether this request was told of a vendor's failure, in whatever shape and with what status."""

_LONGEST_WAIT_SECONDS = 60

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_NO_OBJECT = frozenset({"model_attributes_type", "model_type", "dict_type", "dataclass_type"})

# What a misspelt field may look like; keys have digits or are longer.
_LIKE_A_NAME = re.compile(r"[A-Za-z_]{1,32}\Z")


def problem_of(failure: errors.ExpectedFailure) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, document and headers of an expected failure."""
    status, title = _status_of(failure)
    if isinstance(failure, errors.UpstreamFailed):
        vendor_failed.set(True)
    headers = {}
    retry_after: timedelta | None = getattr(failure, "retry_after", None)
    facts = {
        name: rfc3339(fact) if isinstance(fact, datetime) else fact
        for name, fact in failure.facts.items()
    }
    facts |= in_dollars(facts)
    if retry_after is not None:
        seconds = max(1, math.ceil(retry_after.total_seconds()))
        headers["retry-after"] = str(seconds)
        facts.setdefault("retry_after", seconds)
    if failure.limits:
        headers |= rate_limit_headers(failure.limits, datetime.now(UTC))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return status, _document(status, failure.code, title, failure.message, facts), headers


def is_too_long_to_wait(headers: Mapping[str, str]) -> bool:
    """Whether trying again is later than a program should sleep for. Those of JavaScript's SDKs
    sleep for as long as `retry-after` says, be it half a day, and nobody hears of the limit."""
    return any(seconds > _LONGEST_WAIT_SECONDS for seconds in _waits(headers))


def _waits(headers: Mapping[str, str]) -> Iterator[float]:
    said = headers.get("retry-after", "")
    try:
        yield float(said or 0)
        yield float(headers.get("retry-after-ms") or 0) / 1_000
    except ValueError:
        with suppress(ValueError):
            at = parsedate_to_datetime(said)
            yield (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _status_of(failure: errors.ExpectedFailure) -> tuple[int, str]:
    for family in type(failure).__mro__:
        if family in STATUS:
            return STATUS[family]
    raise TypeError(f"{type(failure).__name__} belongs to no family") from failure


def _document(
    status: int, code: str, title: str, detail: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "type": f"urn:companion:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": current_request_id.get(),
        **facts,
    }


def problem_response(
    status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """The document as an answer."""
    return Response(to_json(document), status, dict(headers or {}), media_type=PROBLEM)


def respond(failure: errors.ExpectedFailure) -> Response:
    """An expected failure as an answer; for code outside FastAPI's handlers."""
    return problem_response(*problem_of(failure))


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of this application a problem document."""

    async def expected(_request: Request, failure: Exception) -> Response:
        assert isinstance(failure, errors.ExpectedFailure)
        return respond(failure)

    async def off_schema(_request: Request, failure: Exception) -> Response:
        assert isinstance(failure, RequestValidationError)
        return _invalid(failure.errors())

    async def plain(request: Request, failure: Exception) -> Response:
        assert isinstance(failure, HTTPException)
        headers = dict(failure.headers or {})
        if failure.status_code == 405 and (methods := methods_at(request)):
            # Starlette names those of the first route alone.
            headers["Allow"] = ", ".join(methods)
        return _plain(failure.status_code, headers=headers)

    async def unforeseen(_request: Request, _failure: Exception) -> Response:
        # Starlette raises it again afterwards, and the door writes it to the log.
        return bug_response()

    app.add_exception_handler(errors.ExpectedFailure, expected)
    app.add_exception_handler(RequestValidationError, off_schema)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, unforeseen)


def coded_response() -> Response:
    """The answer to a body in a content coding: none is taken off (RFC 9110, 15.5.16)."""
    detail = "Send the body as it is, without Content-Encoding."
    return _plain(415, detail, headers={"accept-encoding": "identity"})


def methods_at(request: Request) -> list[str]:
    """What the request's path takes, whichever routers its routes are in."""
    head = {"type": "http", "headers": [], "path": request.scope["path"], "root_path": ""}
    taken = [
        method
        for method in _METHODS
        if any(
            route.matches({**head, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    # Whatever takes GET takes HEAD.
    return ["GET", "HEAD", *taken[1:]] if "GET" in taken else taken


def _plain(status: int, detail: str | None = None, *, headers: Mapping[str, str]) -> Response:
    code, title = PLAIN.get(status, ("http_error", "The request failed"))
    document = _document(status, code, title, detail or f"{title}.", {})
    return problem_response(status, document, headers)


def bug_response() -> Response:
    """The answer to a failure that nobody foresaw: it tells nothing but the request's id."""
    document = _document(500, "internal_error", "We made a mistake", "The request failed.", {})
    return problem_response(500, document)


def _invalid(found: Sequence[Any]) -> Response:
    """What is wrong and where, never what was sent: the value may be a key or a password."""
    if any(error["type"] == "json_invalid" for error in found):
        document = _document(
            400, "malformed_json", "The body is no JSON", "The body can't be read as JSON.", {}
        )
        return problem_response(400, document)
    places = [
        {
            "field": _field(error),
            "rule": error["type"],
            "message": rule_text(error),
        }
        for error in found
    ]
    detail = "; ".join(f"{place['field']}: {place['message']}" for place in places[:5])
    return problem_response(
        422,
        _document(422, "invalid_request", "The request is not valid", detail, {"errors": places}),
    )


def _field(error: Any) -> str:
    *path, last = [str(part) for part in error["loc"]] or [""]
    # A field that we don't know was named by its sender, who may have put a key there.
    unknown = error["type"] == "extra_forbidden" and not _LIKE_A_NAME.match(last)
    return ".".join([*path, "(unknown field)" if unknown else last])


def rule_text(error: Any) -> str:
    """Which rule one of pydantic's errors is about, without what was sent."""
    kind = error["type"]
    # Messages of our own validators may quote what they were given; of pydantic's only the last.
    if kind in {"value_error", "assertion_error", "union_tag_invalid"}:
        return "is not acceptable"
    if kind in _NO_OBJECT:
        # FastAPI leaves a body in bytes whose type is not JSON's.
        in_bytes = isinstance(error.get("input"), bytes)
        return "has to be sent as application/json" if in_bytes else "input should be an object"
    about = error.get("ctx", {})
    if kind == "too_long" and about.get("field_type") == "Value":  # a secret, which is no list
        return f"should have at most {about['max_length']} characters"
    text = str(error["msg"])
    return text if text[1:2].isupper() else text[0].lower() + text[1:]
