"""Requests that nobody sends on purpose, for every operation that a document names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from tests.support.openapi import Operation
from tests.support.tenants import SHARED, VALUES

_NINES = "9" * 6_000  # more digits than Python turns into a number
_FORM = "application/x-www-form-urlencoded"

BODIES: Mapping[str, bytes] = {
    "no body": b"",
    "half an object": b"{",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "NaN": b'{"a": NaN}',
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a NUL byte": b'{"a": "\x00"}',
    "nested deeply": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "lists in lists": b"[" * 20_000 + b"]" * 20_000,
    "a huge number": f'{{"a": {_NINES}}}'.encode(),
    "something behind it": b"{}}",
    "a half character as key": b'{"\\ud800": 1}',
    "NUL as key": b'{"\\u0000": 1}',
}
FIELDS: Mapping[str, str] = {
    "null": "null",
    "a huge number": _NINES,
    "a negative number": "-1",
    "half a number": "-1.5",
    "infinity": "1e999",
    "a long text": json.dumps("x" * 100_000),
    "NUL": '"a\\u0000b"',
    "half a character": '"\\ud800"',
    "an object of it": '{"a": "\\ud800"}',
    "a list of it": '["\\u0000"]',
    "no such day": '"2026-13-45"',
    "the first moment": '"0001-01-01T00:00:00+14:00"',
    "the last moment": '"9999-12-31T23:59:59-14:00"',
    "SQL": '"\' or 1=1 --"',
    "another line": '"\\r\\nx: y"',
}
TWICE = "said twice"
QUERIES: Mapping[str, str] = {
    "nothing": "",
    "NUL": "%00",
    "no UTF-8": "%ff",
    "half a character": "%ed%a0%80",
    "a negative number": "-1",
    "a huge number": "9" * 40,
    "a long text": "x" * 5_000,
    "another line": "%0d%0ax:y",
    "no such day": "2026-13-01",
    "the first moment": "0001-01-01T00:00:00%2B14:00",
    "a cursor of nobody's": "eyJhIjoxfQ",
}
PATHS: Mapping[str, str] = {
    "no UUID": "not-a-uuid",
    "NUL": "a%00",
    "no UTF-8": "%ff",
    "a folder up": "..%2f..",
    "a long text": "x" * 3_000,
    "another line": "%0a",
    "a picture": "%F0%9F%92%A9",
}
HEADERS: Mapping[str, Mapping[str, str | bytes]] = {
    "another type": {"content-type": "text/plain"},
    "no type": {"content-type": ""},
    "a type without its boundary": {"content-type": "multipart/form-data"},
    "a type that is none": {"content-type": ';;="///'},
    "an encoding that it has not": {"content-encoding": "gzip"},
    "a picture as answer": {"accept": "image/png;q=nan"},
    "a long key": {"idempotency-key": "x" * 5_000},
    "a key that is no text": {"idempotency-key": b"\xff\xfe"},
    "a place that is none": {"last-event-id": "-1"},
    "a place far away": {"last-event-id": "9" * 50},
    "a range": {"range": "bytes=0-1,5-", "if-match": '"x"'},
    "a trace that is none": {"traceparent": "00-zz-zz-01"},
    "an id that is none": {"x-request-id": b"\xff<script>"},
    "addresses that are none": {"x-forwarded-for": "nowhere, ,::1"},
}

ODDITIES = frozenset(
    {("field", TWICE)}
    | {("body", name) for name in BODIES}
    | {("field", name) for name in FIELDS}
    | {("query", name) for name in QUERIES}
    | {("path", name) for name in PATHS}
    | {("header", name) for name in HEADERS}
)

# What tells of our code instead of the request.
_INSIDE = re.compile(r'Traceback|File "/|pydantic|asyncpg|sqlalchemy|starlette| object at 0x')
# Before Envoy has given a request its id, it can't name one.
_NOT_READ = (400, "malformed_request")


@dataclass(frozen=True, slots=True)
class OddRequest:
    """One request, and what is odd about it."""

    operation: Operation
    part: str
    """Of which part of it: `body`, `field`, `query`, `path` or `header`, as the tables above."""
    oddity: str
    where: str
    url: str
    content: bytes | None
    headers: Mapping[str, str | bytes]

    def __str__(self) -> str:
        return f"{self.operation} with {self.oddity} as {self.part} {self.where}"

    async def told(self, client: httpx.AsyncClient) -> httpx.Response:
        """Its answer."""
        headers = [
            (name.encode(), value.encode() if isinstance(value, str) else value)
            for name, value in self.headers.items()
        ]
        return await client.request(
            self.operation.method, self.url, content=self.content, headers=headers
        )


def odd_requests(operation: Operation, ids: Mapping[str, str]) -> Iterator[OddRequest]:
    """Every way in which we know how to ask wrongly. What is not odd about a request fits."""
    words = {**SHARED, **ids}
    query = operation.query({**VALUES, **words})
    body = operation.body({**VALUES, **words}, full=True)
    headers: dict[str, str | bytes] = {}
    content: bytes | None = None
    if operation.body_type is not None:
        headers["content-type"] = _boundary(operation.body_type)
        content = _encoded(body, operation.body_type)

    def odd(part: str, oddity: str, where: str = "", **parts: Any) -> OddRequest:
        url = parts.get("url") or _url(operation, words, query)
        told = {**headers, **parts.get("headers", {})}
        sent = parts.get("content", content)
        return OddRequest(operation, part, oddity, where, url, sent, told)

    if content is not None:
        for name, sent in BODIES.items():
            yield odd("body", name, content=sent)
    if operation.body_type == "application/json" and isinstance(body, dict):
        for field in body:
            for name, value in FIELDS.items():
                yield odd("field", name, field, content=_with(body, field, value))
            twice = _encoded(body)[:-1] + f', "{field}": 1}}'.encode()
            yield odd("field", TWICE, field, content=twice)
    for one in operation.about.get("parameters", ()):
        if one["in"] == "query":
            for name, value in QUERIES.items():
                url = _url(operation, words, query, **{one["name"]: value})
                yield odd("query", name, one["name"], url=url)
    for field in operation.path_parameters:
        for name, value in PATHS.items():
            url = _url(operation, {**words, field: value}, query)
            yield odd("path", name, field, url=url)
    for name, changed in HEADERS.items():
        yield odd("header", name, headers=changed)


def complaint_about(answer: httpx.Response, *secrets: str) -> str | None:
    """What is wrong with an answer to something odd; nothing if it is taken or refused well."""
    status, text = answer.status_code, answer.text
    if status >= 500:
        return "it is told as a failure of ours"
    if found := _INSIDE.search(text):
        return f"it shows {found[0]!r}"
    if any(secret in text for secret in secrets if secret):
        return "it shows a secret"
    return _form_of_refusal(answer) if status >= 400 else None


def _form_of_refusal(answer: httpx.Response) -> str | None:
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "text/html":
        return None if "<title>" in answer.text else "it is no page"
    try:
        body = answer.json()
    except ValueError:
        return f"it is no JSON but {kind!r}"
    if kind != "application/problem+json":
        # A vendor's surface, or OAuth's.
        return None if isinstance(body, dict) and body else "it says nothing"
    if body.get("status") != answer.status_code or not body.get("code") or not body.get("detail"):
        return "its problem document lacks something"
    id_ = answer.headers.get("x-request-id")
    if (answer.status_code, body["code"]) == _NOT_READ and body["request_id"] is None:
        return None
    return None if id_ and body["request_id"] == id_ else "it can't be found again by its id"


def _url(
    operation: Operation, words: Mapping[str, str], query: Mapping[str, Any], **raw: str
) -> str:
    path = operation.path
    for name in operation.path_parameters:
        path = path.replace(f"{{{name}}}", words[name])
    asked = [urlencode({name: value}) for name, value in query.items() if name not in raw]
    asked += [f"{quote(name)}={value}" for name, value in raw.items()]
    return f"{path}?{'&'.join(asked)}" if asked else path


def _with(body: Mapping[str, Any], field: str, value: str) -> bytes:
    others = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in body.items() if k != field]
    return f"{{{', '.join([*others, f'{json.dumps(field)}: {value}'])}}}".encode()


def _encoded(body: Any, body_type: str = "application/json") -> bytes:
    if body_type == _FORM:
        return urlencode(body).encode()
    return json.dumps(body).encode()


def _boundary(body_type: str) -> str:
    return f"{body_type}; boundary=x" if body_type.startswith("multipart/") else body_type
