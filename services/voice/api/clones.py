"""Voices made of your own recordings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from services.voice.actions.clone_voice import CloneWish
from services.voice.api.dependencies import ForCaller, ServiceActions
from services.voice.api.voices import VoiceIdPath
from services.voice.domain.clone import (
    CONSENT,
    CONSENT_VERSION,
    LARGEST_SAMPLE,
    LARGEST_TOGETHER,
    MOST_SAMPLES,
    ClonedVoice,
    CloneOrder,
    Upload,
)
from services.voice.domain.errors import CloneNotDescribed, SamplesRefused
from shared.errors import DependencyUnavailable, Invalid
from shared.http.caller import SignedIn
from shared.http.idempotency_key import key_header
from shared.http.problems import problems

router = APIRouter(prefix="/voice", tags=["voices"])

LARGEST_FORM = LARGEST_TOGETHER + (1 << 20)
"""In bytes: the samples, and what stands around them."""

_MOST_FIELDS = 10
_LARGEST_FIELD = 1 << 14
_LONGEST_NAME = 200
_YES, _NO = frozenset({"true", "1", "on", "yes"}), frozenset({"false", "0", "off", "no", ""})

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "consent", "samples"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": 100},
                        "description": {"type": "string", "maxLength": 500},
                        "labels": {
                            "type": "string",
                            "description": 'A JSON object, such as `{"language": "en"}`.',
                        },
                        "remove_background_noise": {"type": "boolean", "default": False},
                        "consent": {
                            "type": "boolean",
                            "description": f"`true` says (version {CONSENT_VERSION}): {CONSENT}",
                        },
                        "samples": {
                            "type": "array",
                            "maxItems": MOST_SAMPLES,
                            "items": {"type": "string", "format": "binary"},
                            "description": "WAV, MP3, FLAC, Ogg, M4A or WebM, 1 s and "
                            f"{LARGEST_SAMPLE >> 20} MiB at most each, 10 s to 10 min and "
                            f"{LARGEST_TOGETHER >> 20} MiB at most together.",
                        },
                    },
                }
            }
        },
    }
}
_PROBLEMS = problems(
    401,
    413,
    502,
    503,
    _402="cloning_not_in_tier",
    _409="request_in_progress, voice_slots_full, no_usable_key",
    _422="consent_missing, sample_refused, samples_refused, samples_rejected, clone_not_described,"
    " idempotency_key_reused",
    _429="limit_reached",
)


class NotAForm(Invalid):
    """The body is no multipart form, or one with more in it than this door takes."""

    code = "not_a_form"


class ClonedVoiceBody(BaseModel):
    """A voice made from samples. With `requires_verification` the vendor wants to hear the speaker
    before the voice may be used."""

    voice_id: str
    name: str
    category: str = "custom"
    consent_version: str
    sample_sha256s: list[str]
    requires_verification: bool

    @classmethod
    def of(cls, cloned: ClonedVoice) -> ClonedVoiceBody:
        clone = cloned.clone
        return cls(
            voice_id=cloned.voice_id,
            name=clone.name,
            consent_version=clone.consent_version,
            sample_sha256s=list(clone.sample_sha256s),
            requires_verification=clone.requires_verification,
        )


@router.post(
    "/voices",
    status_code=201,
    summary="Have a voice made from samples",
    openapi_extra=_FORM,
    responses=_PROBLEMS,
)
async def clone_voice(
    request: Request,
    response: Response,
    caller: SignedIn,
    by: ForCaller,
    actions: ServiceActions,
    idempotency_key: Annotated[
        str | None,
        key_header("One key, one voice: a second request with it answers the same."),
    ] = None,
) -> ClonedVoiceBody:
    """The samples go to the vendor and are kept nowhere here. That you said the speaker agrees, and
    the digests of the samples, go into the audit trail."""
    tier = await actions.clone_voice.tier_for(caller.tier, by=by)
    async with form_of(request) as fields:
        order = await asyncio.to_thread(order_from, fields)
        cloned = await actions.clone_voice(CloneWish(order, tier, by, idempotency_key))
    if cloned.again:
        response.headers["idempotency-replayed"] = "true"
    return ClonedVoiceBody.of(cloned)


@router.delete(
    "/voices/{voice_id}",
    status_code=204,
    summary="Delete a voice that you had made",
    responses=problems(
        401,
        502,
        503,
        _404="voice_not_found",
        _409="voice_not_cloned_here, no_usable_key, voice_on_another_key",
    ),
)
async def remove_voice(voice_id: VoiceIdPath, by: ForCaller, actions: ServiceActions) -> None:
    """Also at the vendor. While that can't be told, the answer is an error, the voice is no longer
    listed, and telling is tried again when you next look at your voices.

    One that you had made with your organisation's key lies in the organisation's account. It can be
    deleted by you while that key is the one used for you, and at any time by the organisation's
    owners and admins (`/voice/organisations/{organisation_id}/voices`)."""
    await actions.remove_voice(voice_id, by=by)


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form of a request, whose files are gone afterwards.

    Raises NotAForm, or DependencyUnavailable while there is no room for its files.
    """
    form = request.form(
        # Somewhat more than allowed is read, so that it can be said what is wrong with it.
        max_files=2 * MOST_SAMPLES,
        max_fields=_MOST_FIELDS,
        max_part_size=_LARGEST_FIELD,
    )
    try:
        async with AsyncExitStack() as opened:
            try:
                fields = await opened.enter_async_context(form)
            except OSError as error:
                raise DependencyUnavailable("temporary files") from error
            yield fields
    except (HTTPException, ClientDisconnect, FormParserError, UnicodeError) as error:
        raise NotAForm("Send a multipart form, as the documentation describes it.") from error


def order_from(form: FormData) -> CloneOrder:
    """The voice that a form asks for. Raises CloneNotDescribed or SamplesRefused."""
    return CloneOrder(
        name=_text(form, "name"),
        description=_text(form, "description") or None,
        labels=_labels(_text(form, "labels")),
        remove_background_noise=_said(form, "remove_background_noise"),
        consent=_said(form, "consent"),
        uploads=[_upload(each) for each in form.getlist("samples")],
    )


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise CloneNotDescribed(name, f"`{name}` is a text, not a file.")
    return value.strip()


def _said(form: FormData, name: str) -> bool:
    said = _text(form, name).lower()
    if said not in _YES | _NO:
        raise CloneNotDescribed(name, f"`{name}` is true or false.")
    return said in _YES


def _labels(text: str) -> Mapping[str, str]:
    try:
        labels = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise CloneNotDescribed("labels", "`labels` is a JSON object of texts.")
    return labels


def _upload(value: UploadFile | str) -> Upload:
    if isinstance(value, str):
        raise SamplesRefused("`samples` are files.", "none")
    size = value.file.seek(0, 2)
    # A client may name its own charset, and with it what no answer can hold.
    name = (value.filename or "")[:_LONGEST_NAME].encode(errors="replace").decode()
    return Upload(name=name, content=value.file, size=size)
