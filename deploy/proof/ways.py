"""The ways to ask: a whole answer, a live one, a spoken text. Each tells how its attempt ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import httpx

from deploy.proof.answers import ANSWER_SECONDS, Attempt, Kind, media_type_of
from deploy.proof.people import Person
from shared.values import dataclass

Way = Literal["whole", "live", "spoken"]

VOICE = "21m00Tcm4TlvDq8ikWAM"


@dataclass(frozen=True, slots=True)
class Question:
    """What one turn asks; `mark` must come back in its answer."""

    number: int
    way: Way
    person: Person
    mark: str
    key: str
    session_id: str = ""
    pace: str = ""

    @property
    def text(self) -> str:
        return f"{self.pace}{self.mark} and what of it is said"


async def attempt(client: httpx.AsyncClient, question: Question) -> Attempt:
    """Ask once, whatever comes of it; nobody waits longer than `ANSWER_SECONDS`."""
    began = time.time()
    told = Attempt(question.number, question.person.tier, question.way, began, began, Kind.HUNG)
    head: list[httpx.Response] = []
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            told = await _asked(client, question, told, head)
    except TimeoutError:
        told = replace(told, kind=Kind.HUNG)
    except httpx.HTTPError as error:
        kind = Kind.CUT if head and head[0].status_code == 200 else Kind.NO_ANSWER
        told = replace(told, kind=kind, code=type(error).__name__)
    return replace(told, ended=time.time())


async def _asked(
    client: httpx.AsyncClient, question: Question, told: Attempt, head: list[httpx.Response]
) -> Attempt:
    headers = {**question.person.headers, "idempotency-key": question.key}
    path, body = _request(question)
    async with client.stream("POST", path, json=body, headers=headers) as answer:
        head.append(answer)
        told = replace(
            told,
            status=answer.status_code,
            media_type=media_type_of(answer.headers),
            retry_after=seconds_of(answer.headers.get("retry-after")),
            request_id=answer.headers.get("x-request-id", ""),
            replayed="idempotency-replayed" in answer.headers,
        )
        content = await answer.aread()
    if told.status != 200:
        return replace(told, kind=Kind.REFUSED, code=_code_of(content))
    if question.way == "spoken":
        return replace(told, kind=Kind.ANSWERED if content else Kind.WRONG)
    if question.way == "whole":
        return _judged(told, json.loads(content), question.mark)
    return live_answer(told, content.decode(), question.mark)


def _request(question: Question) -> tuple[str, Mapping[str, Any]]:
    if question.way == "spoken":
        return "/voice/speech", {"text": question.text, "voice_id": VOICE, "cache": False}
    return (
        f"/chat/sessions/{question.session_id}/messages",
        {"content": question.text, "stream": question.way == "live"},
    )


def live_answer(told: Attempt, text: str, mark: str) -> Attempt:
    """What a stream of events came to: its last one says it. Without one it was cut."""
    name, data = _last_event(text)
    if name == "done":
        return _judged(told, data, mark)
    if name in {"error", "interrupted"}:
        problem = data.get("problem", data)
        return replace(told, kind=Kind.BROKEN_OFF, code=str(problem.get("code", "")))
    return replace(told, kind=Kind.CUT)


def _last_event(text: str) -> tuple[str, dict[str, Any]]:
    name, data = "", "{}"
    for line in text.splitlines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
    try:
        return name, dict(json.loads(data))
    except ValueError:
        return "", {}


def _judged(told: Attempt, answer: Mapping[str, Any], mark: str) -> Attempt:
    message = answer["message"]
    if message["status"] != "done":
        return replace(told, kind=Kind.BROKEN_OFF, code=str(message["finish_reason"]))
    kind = Kind.ANSWERED if mark in message["content"] else Kind.WRONG
    return replace(told, kind=kind, cost_microusd=message["cost_microusd"])


def seconds_of(header: str | None) -> float | None:
    """What `Retry-After` asks for; None without one that is a number."""
    return float(header) if header is not None and header.isdigit() else None


def _code_of(content: bytes) -> str:
    try:
        return str(json.loads(content)["code"])
    except (ValueError, KeyError, TypeError):
        return ""
