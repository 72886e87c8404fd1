"""Every fault of every vendor through every door: the answer, the record, the limits, the bill.

The cells run side by side, since most of their time is waiting; each is judged by a test of its
own, against `tests.support.chat_faults` and against what the simulated vendor says it served.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.chat.app import create_app
from tests.integration.chat.conftest import ChatSuite
from tests.integration.chat.dropins import CHAT, GEMINI, MESSAGES, RESPONSES, Interface
from tests.support.chat_faults import (
    DOORS,
    WHOLE,
    WORDS,
    Cell,
    Door,
    Want,
    code_of,
    every_cell,
    status_of,
)
from tests.support.simulator.keys import digest
from tests.support.tokens import serving

CELLS = tuple(every_cell())
AT_ONCE = 32
MODELS = {
    "openai": "openai/gpt-6-luna",
    "anthropic": "anthropic/claude-sonnet-5-5",
    "gemini": "gemini/gemini-3.8-flash",
}
DROPINS = {"openai": CHAT, "anthropic": MESSAGES, "gemini": GEMINI}
TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
)


@dataclass(slots=True)
class Answer:
    """What the client got: `code` is None for an answer without a failure."""

    status: int
    code: str | None
    text: str
    in_stream: bool
    last_event: str = ""
    retry_after: str | None = None


@dataclass(slots=True)
class Seen:
    """What a cell left behind."""

    answer: Answer
    limits: Mapping[str, Mapping[str, Any]]
    crossed_a_minute: bool
    answer_rows: list[dict[str, Any]] = field(default_factory=list)
    holds: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    served: list[dict[str, Any]] = field(default_factory=list)


class Bench:
    """Runs the cells that were chosen, once."""

    def __init__(self, chat: ChatSuite, client: httpx.AsyncClient, cells: Sequence[Cell]) -> None:
        self._chat = chat
        self._client = client
        self._cells = cells
        self._places = asyncio.Semaphore(AT_ONCE)
        self.seen: dict[str, Seen] = {}

    async def run(self) -> None:
        users = {cell.id: uuid4() for cell in self._cells}
        keys = {id_: f"sim-key-{uuid4().hex}" for id_ in users}
        # With a cap on money, so that money is counted.
        await self._chat.database.execute(
            "insert into preference (user_id, fallback, monthly_cap_microusd, updated_at)"
            " select id, '{}', 500000000, now() from unnest($1::uuid[]) id",
            list(users.values()),
        )
        found = await asyncio.gather(
            *(self._one(cell, users[cell.id], keys[cell.id]) for cell in self._cells)
        )
        self.seen = {cell.id: seen for cell, seen in zip(self._cells, found, strict=True)}
        await self._look_back(users, keys)

    async def _one(self, cell: Cell, user_id: UUID, key: str) -> Seen:
        async with self._places:
            chat = self._chat
            chat.egress.keys[(user_id, cell.vendor)] = key
            headers = chat.mint.headers(user_id, tier="pro")
            began = datetime.now(UTC)
            try:
                answer = await self._ask(cell, headers)
            except httpx.HTTPError as error:
                answer = Answer(0, type(error).__name__, "", in_stream=False)
            limits = await self._limits(headers)
            crossed = datetime.now(UTC).minute != began.minute
            return Seen(answer, {row["name"]: row for row in limits}, crossed)

    async def _limits(self, headers: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        """As they are once nothing is held: on a busy machine Valkey may hear of it late."""
        rows: Sequence[Mapping[str, Any]] = []
        for _ in range(60):
            answer = await self._call("GET", "/chat/limits", headers)
            rows = answer.json().get("data", [])
            held = [r for r in rows if r["reserved"] or (not r["window_seconds"] and r["used"])]
            if rows and not held:
                break
            await asyncio.sleep(0.05)
        return rows

    async def _call(
        self, method: str, path: str, headers: Mapping[str, str], body: Any = None
    ) -> httpx.Response:
        return await self._client.request(method, path, json=body, headers=dict(headers))

    async def _ask(self, cell: Cell, headers: Mapping[str, str]) -> Answer:
        prompt = f"[[sim:{cell.directive}]] {WORDS}" if cell.directive else WORDS
        headers = {**headers, "idempotency-key": "once"}
        if cell.door.surface == "session":
            session = (await self._call("POST", "/chat/sessions", headers, {})).json()["id"]
            body = {"content": prompt, "provider": cell.vendor, "stream": cell.door.streamed}
            path = f"/chat/sessions/{session}/messages"
            return session_answer(await self._call("POST", path, headers, body))
        if cell.door.surface == "v1":
            body = {
                "model": MODELS[cell.vendor],
                "messages": [{"role": "user", "content": prompt}],
                "stream": cell.door.streamed,
            }
            return sdk_answer(await self._call("POST", CHAT.path[7:], headers, body), CHAT)
        door = RESPONSES if cell.door.surface == "responses" else DROPINS[cell.vendor]
        path = door.stream_path if cell.door.streamed else door.path
        body = door.body(prompt, stream=cell.door.streamed)
        if door is MESSAGES:
            body["max_tokens"] = 4_000
        return sdk_answer(await self._call("POST", path, headers, body), door)

    async def _look_back(self, users: Mapping[str, UUID], keys: Mapping[str, str]) -> None:
        """What the database and the vendor know, at the end and in one look each."""
        await self._until_settled(list(users.values()))
        holds = await self._chat.database.fetch(
            "select * from generation where user_id = any($1::uuid[])", list(users.values())
        )
        events = await self._chat.database.fetch(
            "select envelope from outbox where envelope->>'subject' = any($1::text[])",
            [str(user_id) for user_id in users.values()],
        )
        rows = await self._chat.database.fetch(
            "select m.*, s.user_id from chat_message m join chat_session s on s.id = m.session_id"
            " where s.user_id = any($1::uuid[]) and m.role = 'assistant'",
            list(users.values()),
        )
        served = self._chat.simulator.served()
        by_user = {str(user_id): id_ for id_, user_id in users.items()}
        by_key = {digest(key): id_ for id_, key in keys.items()}
        for hold in holds:
            self.seen[by_user[str(hold["user_id"])]].holds.append(dict(hold))
        for row in rows:
            self.seen[by_user[str(row["user_id"])]].answer_rows.append(dict(row))
        for event in events:
            self.seen[by_user[event["envelope"]["subject"]]].events.append(event["envelope"])
        for row in served:
            if row["key_sha256"] in by_key:
                self.seen[by_key[row["key_sha256"]]].served.append(row)

    async def _until_settled(self, users: Sequence[UUID]) -> None:
        sql = "select count(*) as n from generation where user_id = any($1::uuid[])"
        for _ in range(100):
            (row,) = await self._chat.database.fetch(f"{sql} and state = 'running'", users)
            if not row["n"]:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("some turns were never settled")


def session_answer(answer: httpx.Response) -> Answer:
    """What a chat session's door said."""
    retry_after = answer.headers.get("retry-after")
    if not answer.headers["content-type"].startswith("text/event-stream"):
        body = answer.json()
        text = body["message"]["content"] if answer.status_code == 200 else ""
        return Answer(answer.status_code, body.get("code"), text, False, retry_after=retry_after)
    events = [
        dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        for block in answer.text.split("\n\n")
        if "event: " in block
    ]
    said = "".join(json.loads(e["data"])["text"] for e in events if e["event"] == "delta")
    last = json.loads(events[-1]["data"])
    problem = last.get("problem", last)
    return Answer(
        answer.status_code, problem.get("code"), said, True, events[-1]["event"], retry_after
    )


def sdk_answer(answer: httpx.Response, door: Interface) -> Answer:
    """What a door for SDKs said, in the vendor's shape."""
    retry_after = answer.headers.get("retry-after")
    if not answer.headers["content-type"].startswith("text/event-stream"):
        body = answer.json()
        if answer.status_code != 200:
            code = str(body.get("error", body).get("code"))
            return Answer(answer.status_code, code, json.dumps(body), False, "", retry_after)
        return Answer(200, None, _whole_text(door, body), False)
    documents = [
        json.loads(line[5:])
        for line in answer.text.replace("\r", "").split("\n")
        if line.startswith("data:") and line[5:].strip().startswith("{")
    ]
    last = documents[-1]
    error = last.get("error") if isinstance(last.get("error"), dict) else None
    if last.get("type") == "error" and error is None:
        error = last
    text = "".join(_delta(door, d) for d in documents if not d.get("error"))
    told = json.dumps(error) if error is not None else None
    return Answer(200, told, text, True, "error" if error is not None else "end")


def _delta(door: Interface, document: Mapping[str, Any]) -> str:
    try:
        return door.delta_of(dict(document)) or ""
    except (KeyError, AttributeError):
        return ""


def _whole_text(door: Interface, body: Any) -> str:
    try:
        return door.text_of(body) or ""
    except (KeyError, IndexError):
        return ""


@pytest.fixture(scope="module")
async def patient(chat: ChatSuite) -> AsyncIterator[ChatSuite]:
    """A replica that tries as often as a deployment's; most tests have no time for that."""
    settings = chat.settings.model_copy(update={"retry_seconds": 30})
    process = create_app(settings)
    async with process.lifespan(), serving(process.public) as url:
        yield replace(chat, url=url, settings=settings, process=process)


@pytest.fixture(scope="module")
async def bench(patient: ChatSuite, request: pytest.FixtureRequest) -> Bench:
    # Only those that are to be judged: a run may be narrowed down to some.
    chosen = [
        cell
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_a_fault"
        if isinstance(cell := item.callspec.params["cell"], Cell)
    ]
    async with httpx.AsyncClient(
        base_url=patient.url, timeout=30, trust_env=False, limits=httpx.Limits(max_connections=None)
    ) as client:
        bench = Bench(patient, client, chosen)
        await bench.run()
    return bench


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_a_fault(bench: Bench, cell: Cell) -> None:
    seen = bench.seen[cell.id]
    wrong = [
        *answer_faults(cell, seen),
        *record_faults(cell, seen),
        *bill_faults(cell, seen),
        *limit_faults(cell, seen),
        *row_faults(cell, seen),
    ]
    # What was seen is shown in short; the whole of it is in `seen`.
    assert not wrong, f"{cell.id}: " + "; ".join(wrong) + f"\n{seen.answer}"


def answer_faults(cell: Cell, seen: Seen) -> Iterator[str]:
    """What the client was told."""
    want, got, door = cell.want, seen.answer, cell.door
    if want.code is None:
        yield from differs("status", got.status, 200)
        yield from differs("code", got.code, None)
    else:
        if not code_is_told(cell, got):
            yield f"code is {got.code!r}, not {want.code!r}"
        yield from status_faults(cell, seen)
    text = "" if want.code is not None and not got.in_stream else got.text
    yield from text_faults(want, text, door)
    if door.name == "session-sse":
        broken = "error" if want.said == "none" else "interrupted"
        yield from differs("last event", got.last_event, "done" if want.code is None else broken)


def code_is_told(cell: Cell, got: Answer) -> bool:
    code = code_of(cell.want.code or "", cell.door)
    if cell.door.translates and not got.in_stream:
        return got.code == code
    # Within streams, and in vendors' shapes, a vendor's own word may stand for ours.
    if cell.door.surface in {"session"}:
        return got.code == code
    if cell.door.surface == "v1" or cell.want.outcome == "provider_failed":
        return got.code is not None and code in f"{got.code} {got.text}"
    return got.code is not None


def status_faults(cell: Cell, seen: Seen) -> Iterator[str]:
    want, got, door = cell.want, seen.answer, cell.door
    status = status_of(want.code or "", door)
    if door.name == "session-sse" or (door.streamed and want.said != "none"):
        status = 200
    elif not door.translates:
        if want.code == "no_usable_key":
            status = 403
        elif seen.served and seen.served[-1]["status"] >= 400:
            status = seen.served[-1]["status"]
        elif (
            door.streamed
            and not cell.directive.startswith("connection")  # it sent no head
            and (want.outcome == "provider_failed" or "stream_" in cell.directive)
        ):
            status = 200  # the vendor's head was passed on
    if got.in_stream and door.name == "v1-sse":
        # Its head waits a second for the vendor; what comes later is told in the stream.
        status = 200
    yield from differs("status", got.status, status)
    asked = {"fault=rate_limit,retry_after=60": "60", "fault=contract_spend_limit": None}
    if not got.in_stream and cell.directive in asked and door.translates:
        yield from differs("retry-after", got.retry_after, asked[cell.directive])


def text_faults(want: Want, text: str, door: Door) -> Iterator[str]:
    if want.said == "all":
        yield from differs("text", text.strip() if door.streamed or not text else text, WHOLE)
    elif want.said == "none" and text:
        yield f"text {text!r} was said"
    elif want.said == "part" and not (text and WHOLE.startswith(text) and text != WHOLE):
        yield f"text {text!r} is no part of the answer"
    elif want.said == "other" and not text and door.translates:
        yield "no text was said"


def record_faults(cell: Cell, seen: Seen) -> Iterator[str]:
    """The hold and its one terminal record."""
    want = cell.want
    if len(seen.holds) != 1:
        yield f"{len(seen.holds)} holds"
        return
    (hold,) = seen.holds
    yield from differs("state", hold["state"], "settled")
    yield from differs("outcome", hold["outcome"], want.outcome)
    yield from differs("calls", len(seen.served), want.calls)
    if want.outcome == "refused" and hold["idempotency_key"] is not None:
        yield "the idempotency key was not freed"
    if want.outcome == "done" and hold["idempotency_key"] is None:
        yield "the idempotency key was freed"


def bill_faults(cell: Cell, seen: Seen) -> Iterator[str]:
    """One usage event for each go or none, with the vendor's own numbers where it told them."""
    want = cell.want
    if len(seen.events) != (want.goes if want.is_told else 0):
        yield f"{len(seen.events)} usage events"
        return
    if not want.is_told:
        return
    data = seen.events[0]["data"]
    yield from differs("event's outcome", data["outcome"], want.outcome)
    yield from differs("source", data["source"], want.source)
    yield from differs("event's provider", data["provider"], cell.vendor)
    charged: Counter[str] = Counter()
    for row in seen.served:
        charged.update(row["usage"])
    told = {name: sum(event["data"][name] for event in seen.events) for name in TOKENS}
    if want.source == "provider":
        yield from differs("tokens", told, {name: charged[name] for name in TOKENS})
        responses = {row["response_id"] for row in seen.served}
        if data["provider_request_id"] not in responses:
            yield f"provider_request_id {data['provider_request_id']!r} is unknown to the vendor"
    else:
        if not told["input_tokens"]:
            yield "no input was estimated"
        if cell.tells_input:
            for name in TOKENS[:3]:
                yield from differs(name, told[name], charged[name])
        # Anthropic counts its first token before it says it.
        if (told["output_tokens"] > 1) != (want.said != "none"):
            yield f"{told['output_tokens']} tokens of output were estimated"


def limit_faults(cell: Cell, seen: Seen) -> Iterator[str]:
    """The tier's charged with what reached the user, with nothing when nothing did; the user's own
    cap with whatever is billed; no place is kept."""
    used = {
        name.rpartition(".")[2]: row["used"]
        for name, row in seen.limits.items()
        if name.startswith(f"{cell.vendor}.") or "." not in name
    }
    reserved = {name: row["reserved"] for name, row in seen.limits.items() if row["reserved"]}
    if reserved:
        yield f"still reserved: {reserved}"
    charged = cell.want.said != "none" or cell.want.thinks_aloud
    events = [event["data"] for event in seen.events]
    tokens = sum(data["input_tokens"] + data["output_tokens"] for data in events)
    cost = seen.holds[0]["cost_microusd"] if seen.holds else 0
    wanted = {
        "requests_per_day": int(charged),
        "requests_per_minute": int(charged),
        "tokens_per_minute": tokens if charged else 0,
        "monthly_spend": cost or 0,
        "concurrent_streams": 0,
    }
    for name, wants in wanted.items():
        if name.endswith("per_minute") and seen.crossed_a_minute and used.get(name) == 0:
            continue
        if name in used:
            yield from differs(name, used[name], wants)
        elif wants or name != "monthly_spend":  # which is not there before it is first counted
            yield f"no window {name}"


def row_faults(cell: Cell, seen: Seen) -> Iterator[str]:
    """The answer in the conversation: none for what was refused, else as far as it came."""
    if cell.door.surface != "session":
        return
    want = cell.want
    if want.outcome == "refused":
        yield from differs("answers kept", len(seen.answer_rows), 0)
        return
    if len(seen.answer_rows) != 1:
        yield f"{len(seen.answer_rows)} answers were kept"
        return
    (row,) = seen.answer_rows
    status = "done" if want.outcome == "done" else "interrupted"
    yield from differs("row's status", row["status"], status)
    yield from differs("row's finish_reason", row["finish_reason"], want.finish or want.outcome)
    if cell.door.streamed:
        yield from differs("row's text", row["content"], seen.answer.text)
    yield from text_faults(want, row["content"], DOORS[1])


def differs(what: str, got: object, wanted: object) -> Iterator[str]:
    if got != wanted:
        yield f"{what} is {got!r}, not {wanted!r}"
