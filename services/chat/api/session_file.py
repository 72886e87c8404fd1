"""A session as a file, written while it is read."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi.responses import StreamingResponse

from services.chat.actions.export_user import ExportedImage, ExportUser
from services.chat.api.message_body import AttachmentBody, MessageBody
from services.chat.api.session_body import SessionBody
from services.chat.domain.content import Role
from services.chat.domain.conversation import ChatSession, Message, MessageStatus
from shared.http.export import json_answer

Pages = AsyncIterator[Sequence[Mapping[str, Any]]]

_SPEAKERS = {Role.USER: "You", Role.TOOL: "Tools", Role.SYSTEM: "System"}


async def json_file(session: ChatSession, export: ExportUser) -> StreamingResponse:
    """Everything of it: all branches, and images as base64."""
    answer = await json_answer(
        {
            **SessionBody.of(session).model_dump(mode="json"),
            "messages": exported_messages(session, export),
        }
    )
    answer.headers["content-disposition"] = _file_name(session, "json")
    return answer


async def exported_messages(session: ChatSession, export: ExportUser) -> Pages:
    """All messages as clients see them, images with their bytes: `data` is base64, and a third
    larger than `size_bytes`."""
    async for page in export.messages(session.id):
        yield [
            {
                **MessageBody.of(message).model_dump(mode="json"),
                "attachments": _images(message, export) if message.attachments else [],
            }
            for message in page
        ]


async def _images(message: Message, export: ExportUser) -> Pages:
    async for page in export.images(message):
        yield [_image(image) for image in page]


def _image(image: ExportedImage) -> Mapping[str, Any]:
    data = None if image.data is None else base64.b64encode(image.data).decode()
    return {**AttachmentBody.of(image.attachment).model_dump(mode="json"), "data": data}


async def markdown_file(session: ChatSession, export: ExportUser) -> StreamingResponse:
    """What is shown of it, to be read."""
    pieces = _markdown(session, export)
    first = await anext(pieces)
    return StreamingResponse(
        _after(first, pieces),
        media_type="text/markdown; charset=utf-8",
        headers={
            "cache-control": "no-store",
            "content-disposition": _file_name(session, "md"),
        },
    )


async def _markdown(session: ChatSession, export: ExportUser) -> AsyncIterator[str]:
    title = f"# {' '.join(session.name.split())}\n"
    if session.system_prompt:
        title += f"\n> {session.system_prompt.strip().replace(chr(10), chr(10) + '> ')}\n"
    first = True
    async for page in export.messages(session.id, every_branch=False):
        yield (title if first else "") + "".join(_section(message) for message in page)
        first = False


def _section(message: Message) -> str:
    speaker = _SPEAKERS.get(message.role) or f"Assistant ({message.model or message.provider})"
    cut = " (interrupted)" if message.status is MessageStatus.INTERRUPTED else ""
    parts = [f"## {speaker}{cut}"]
    parts += [f"[image: {one.url or one.media_type}]" for one in message.attachments]
    parts += [
        _fenced(f"{result.name or result.call_id}", result.content)
        for result in message.tool_results
    ]
    parts += [message.content] if message.content else []
    parts += [_fenced(f"{call.name}(…)", call.arguments) for call in message.tool_calls]
    return "\n" + "\n\n".join(parts) + "\n"


def _fenced(title: str, text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{title}:\n\n{fence}\n{text}\n{fence}"


async def _after(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for piece in rest:
        yield piece


def _file_name(session: ChatSession, ending: str) -> str:
    return f'attachment; filename="chat-{session.id}.{ending}"'
