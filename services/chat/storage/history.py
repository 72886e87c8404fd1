"""What was said before, as the vendor gets to see it: rows of messages as utterances.

Images come along while they fit into a budget of bytes, the newest first; in place of the others
stands a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from services.chat.domain.content import (
    ContentPart,
    ImagePart,
    Role,
    TextPart,
    Utterance,
    asked_as,
)
from services.chat.domain.context_window import IMAGE_NOTE
from services.chat.domain.conversation import Attachment
from services.chat.storage.extras import NOTHING, Extras, from_extras
from shared.db.database import Database

_CONTENTS = "select id, content from chat_attachment where id = any($1)"

_ROLES = {role.value: role for role in Role}

Images = Mapping[UUID, bytes]


class Said(NamedTuple):
    """A message of before."""

    role: str
    content: str
    extras: Mapping[str, Any] | None


async def utterances_of(
    said: Sequence[Said], database: Database, *, image_bytes: int
) -> list[Utterance]:
    """The messages, oldest first, with as many of the newest images as the budget holds."""
    if not any(extras or not content for _, content, extras in said):
        # As nearly always, and of these there may be a hundred.
        user, assistant = Role.USER, Role.ASSISTANT
        return [
            Utterance(assistant if role == assistant else user, content)
            for role, content, _ in said
        ]
    read = [from_extras(one.extras) for one in said]
    images = await _images(database, _chosen(read, image_bytes))
    return [
        utterance
        for one, extras in zip(said, read, strict=True)
        for utterance in _utterances(one, extras, images)
    ]


async def images_of(extras: Extras, database: Database) -> list[ImagePart]:
    """All that was sent along with one message."""
    images = await _images(database, [a.id for a in extras.attachments if a.url is None])
    return [_part(a, images) for a in extras.attachments if a.url or a.id in images]


def _chosen(read: Sequence[Extras], image_bytes: int) -> list[UUID]:
    chosen: list[UUID] = []
    for extras in reversed(read):
        for attachment in reversed(extras.attachments):
            image_bytes -= attachment.size_bytes or 0
            if image_bytes < 0:
                return chosen
            if attachment.url is None:
                chosen.append(attachment.id)
    return chosen


async def _images(database: Database, ids: Sequence[UUID]) -> Images:
    if not ids:
        return {}
    return {row["id"]: row["content"] for row in await database.fetch(_CONTENTS, ids)}


def _utterances(said: Said, extras: Extras, images: Images) -> Sequence[Utterance]:
    role = _ROLES[said.role]
    if extras is NOTHING and said.content:
        return (Utterance(role if role is Role.ASSISTANT else Role.USER, said.content),)
    if role is Role.ASSISTANT:
        return [
            Utterance(role, said.content, tool_calls=extras.tool_calls, thoughts=extras.thoughts)
        ]
    if extras.attachments:
        results = asked_as("", (), extras.tool_results) if extras.tool_results else []
        return [*results, _with_images(said, extras, images)]
    return asked_as(said.content, (), extras.tool_results)


def _with_images(said: Said, extras: Extras, images: Images) -> Utterance:
    parts = tuple(_parts(said, extras, images))
    content = "\n".join(part.text for part in parts if isinstance(part, TextPart))
    return Utterance(Role.USER, content, parts=parts)


def _parts(said: Said, extras: Extras, images: Images) -> Iterator[ContentPart]:
    for attachment in extras.attachments:
        known = attachment.url is not None or attachment.id in images
        yield _part(attachment, images) if known else TextPart(IMAGE_NOTE)
    if said.content:
        yield TextPart(said.content)


def _part(attachment: Attachment, images: Images) -> ImagePart:
    return ImagePart(attachment.media_type, images.get(attachment.id), attachment.url)
