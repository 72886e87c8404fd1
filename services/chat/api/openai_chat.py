"""`POST /v1/chat/completions`: OpenAI's Chat Completions over all vendors."""

from __future__ import annotations

from services.chat.api.follower import Receive, Send
from services.chat.api.openai_chat_answer import ChunkWriter, completion
from services.chat.api.openai_chat_request import chat_request
from services.chat.api.openai_door import Asking, Form, answer, openai_shaped
from services.chat.api.openai_operation import CHAT_BODY, operation
from shared.http.hot import HotRoute


async def _complete(asking: Asking, receive: Receive, send: Send) -> None:
    request = chat_request(asking.fields)
    form = Form(
        writer=lambda hold: ChunkWriter(hold, with_usage=request.usage_in_stream).write,
        document=completion,
    )
    await answer(asking, request, form, receive, send)


chat_completions = HotRoute(
    "/v1/chat/completions",
    openai_shaped(_complete),
    methods={"POST"},
    operation=operation(
        "chat_completions", "OpenAI's Chat Completions, over all vendors", CHAT_BODY
    ),
)
