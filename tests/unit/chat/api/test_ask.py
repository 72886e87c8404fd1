"""Which questions the hot route answers itself, and that others are passed on whole."""

from __future__ import annotations

import json
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chat.api.ask import ask
from services.chat.domain.question import Question
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn_events import Answered, Broken
from shared.errors import Unauthenticated
from shared.limits.pace import Gone
from shared.tokens import Identity
from shared.vendors.failures import VendorFailed
from tests.support.chat import ada
from tests.support.chat_calls import a_hold, an_answer_message

SESSION = uuid4()
TOKEN = (b"authorization", b"Bearer token")
JSON = (b"content-type", b"application/json")


@dataclass
class Chat:
    """FastAPI's application, and what stands behind both routes."""

    questions: list[Question] = field(default_factory=list)
    passed_on: list[bytes] = field(default_factory=list)
    failure: VendorFailed | None = None

    @property
    def state(self) -> Any:
        return SimpleNamespace(verifier=self, scope="chat", actions=self)

    async def verify(self, token: str) -> Identity:
        return Identity(ada, "pro", "member", None, frozenset({"chat"}), uuid4(), 9, 0)

    async def take_turn(self, question: Question, _gone: Gone) -> RunningTurn:
        self.questions.append(question)
        turn = RunningTurn(a_hold(), (), uuid4(), left_out=2)
        message = an_answer_message(turn.hold, "hi")
        turn.say(Broken(self.failure, None) if self.failure else Answered(message, "stop"))
        turn.over()
        return turn

    async def __call__(self, _scope: Any, receive: Any, _send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.passed_on.append(body)
        assert (await receive())["type"] == "http.disconnect"


async def put(
    chat: Chat,
    *pieces: bytes,
    session_id: object = SESSION,
    headers: Sequence[tuple[bytes, bytes]] = (JSON, TOKEN),
) -> list[MutableMapping[str, Any]]:
    """The hot route's messages."""
    coming: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    params = {"session_id": str(session_id)}
    await ask.answer({"app": chat, "path_params": params, "headers": list(headers)}, receive, send)
    return sent


@pytest.mark.parametrize("pieces", [[b'{"content": "a"}'], [b'{"con', b"", b'tent": "a"}']])
async def test_a_question_in_order_is_answered_here(pieces: list[bytes]) -> None:
    chat = Chat()
    start, body = await put(chat, *pieces, headers=[JSON, TOKEN, (b"idempotency-key", b"k")])

    assert chat.passed_on == []
    (question,) = chat.questions
    asked = (question.content, question.session_id, question.idempotency_key)
    assert asked == ("a", SESSION, "k")
    headers = dict(start["headers"])
    assert (start["status"], headers[b"content-type"]) == (200, b"application/json")
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    answer = json.loads(body["body"])
    assert answer["message"]["content"] == "hi"
    assert (answer["finish_reason"], answer["messages_left_out"]) == ("stop", 2)


@pytest.mark.parametrize(
    ("pieces", "parts"),
    [
        ([b"{"], {}),
        ([b""], {}),
        ([b"{}"], {}),
        ([b'{"content": ', b'"a", "no": 1}'], {}),
        ([b'{"content": "a"}'], {"session_id": "77"}),
        ([b'{"content": "a"}'], {"session_id": UUID(int=0xA << 120).urn}),
        ([b'{"content": "a"}'], {"headers": [TOKEN]}),
        ([b'{"content": "a"}'], {"headers": [JSON, JSON, TOKEN]}),
        ([b'{"content": "a"}'], {"headers": [(b"content-type", b"text/plain"), TOKEN]}),
        ([b'{"content": "a"}'], {"headers": [JSON, TOKEN, (b"idempotency-key", b"a b")]}),
    ],
)
async def test_any_other_goes_on_with_all_that_was_read(
    pieces: list[bytes], parts: dict[str, Any]
) -> None:
    chat = Chat()
    assert await put(chat, *pieces, **parts) == []
    assert chat.passed_on == [b"".join(pieces)]
    assert chat.questions == []


async def test_without_a_token_nothing_is_asked() -> None:
    chat = Chat()
    with pytest.raises(Unauthenticated):
        await put(chat, b'{"content": "a"}', headers=[JSON])
    assert chat.questions == []


async def test_a_broken_turn_is_a_failure_and_no_answer() -> None:
    with pytest.raises(VendorFailed):
        await put(Chat(failure=VendorFailed("openai")), b'{"content": "a"}')
