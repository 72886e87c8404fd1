"""`POST /v1/responses`: OpenAI's Responses over all vendors. Nothing is stored: a conversation
travels with each request."""

from __future__ import annotations

from services.chat.api.follower import Receive, Send
from services.chat.api.openai_door import Asking, Form, answer, openai_shaped
from services.chat.api.openai_operation import RESPONSES_BODY, operation
from services.chat.api.openai_responses_answer import EventWriter, Response
from services.chat.api.openai_responses_request import responses_request
from shared.http.hot import HotRoute


async def _respond(asking: Asking, receive: Receive, send: Send) -> None:
    request = responses_request(asking.fields)
    form = Form(
        writer=lambda hold: EventWriter(hold, request.echoed).write,
        document=lambda hold, answered: Response(hold, request.echoed).ended(answered),
    )
    await answer(asking, request, form, receive, send)


responses = HotRoute(
    "/v1/responses",
    openai_shaped(_respond),
    methods={"POST"},
    operation=operation("responses", "Responses over all vendors", RESPONSES_BODY),
)
