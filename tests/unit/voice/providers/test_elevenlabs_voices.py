"""Voices on the vendor's wire: how they are looked for, made and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.message import Message
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from services.voice.domain.clone import CloneOrder, Recording, Sample
from services.voice.domain.errors import (
    SamplesRejected,
    VoiceNotFound,
    VoiceSlotsFull,
)
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId
from services.voice.domain.voice_search import VoiceQuery
from services.voice.providers.elevenlabs_voice_wire import voice_from_wire
from services.voice.providers.elevenlabs_voices import ElevenLabsVoices
from services.voice.providers.remembered_voices import RememberedStudio, RememberedVoices
from shared.clients.egress import Egress, Payload, VendorConnectionLost
from shared.vendors.failures import NoUsableKey, VendorFailed, VendorPlanRequired
from tests.support.voice import RACHEL, VOICES, FakeProvider, on_behalf_of
from tests.support.voice_studio import FakeStudio, an_upload

BY = on_behalf_of()


class Pieces:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


@dataclass
class Answer:
    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> Pieces:
        return Pieces(self.body if isinstance(self.body, bytes) else orjson.dumps(self.body))


@dataclass
class Vendor:
    """Gives its answers one by one, and keeps what it was asked."""

    answers: list[Answer | Exception]
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    content_type: str = ""

    @asynccontextmanager
    async def request(
        self,
        method: str,
        provider: str,
        path: str,
        *,
        by: object,
        payload: Payload | None = None,
        first_byte_within: timedelta,
    ) -> AsyncIterator[Answer]:
        self.asked.append((method, path))
        if payload is not None:
            self.content_type = payload.content_type
            self.sent.append(b"".join([piece async for piece in payload.pieces]))
            assert len(self.sent[-1]) == payload.length
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield answer

    @property
    def voices(self) -> ElevenLabsVoices:
        return ElevenLabsVoices(cast("Egress", self))


def page(*voices: Any, token: Any = None, more: Any = None) -> Answer:
    has_more = token is not None if more is None else more
    return Answer({"voices": list(voices), "has_more": has_more, "next_page_token": token})


def wire(id_: str = "v1", **fields: Any) -> dict[str, Any]:
    return {"voice_id": id_, **fields}


@pytest.mark.parametrize(
    ("fields", "category"),
    [
        ({"category": "premade"}, VoiceCategory.BASIC),
        ({"category": "cloned", "is_owner": True}, VoiceCategory.CUSTOM),
        ({"category": "generated"}, VoiceCategory.CUSTOM),
        ({"category": "professional"}, VoiceCategory.PREMIUM),
        ({"category": "professional", "is_owner": False}, VoiceCategory.PREMIUM),
        ({"category": "professional", "is_owner": "yes"}, VoiceCategory.PREMIUM),
        ({"category": "professional", "is_owner": True}, VoiceCategory.ENTERPRISE),
        ({"category": "famous"}, VoiceCategory.PREMIUM),
        ({"category": "high_quality", "is_owner": True}, VoiceCategory.PREMIUM),
        ({"category": "brand new"}, VoiceCategory.PREMIUM),
        ({"category": None}, VoiceCategory.PREMIUM),
        ({}, VoiceCategory.PREMIUM),
    ],
)
def test_the_vendors_categories_are_ours(fields: dict[str, Any], category: VoiceCategory) -> None:
    voice = voice_from_wire(wire(**fields))
    assert voice is not None
    assert voice.category is category


def test_a_voice_needs_nothing_but_its_id() -> None:
    assert voice_from_wire(wire("abc")) == Voice(VoiceId("abc"), "abc", VoiceCategory.PREMIUM)
    odd = wire("abc", name=7, labels=["x"], preview_url=None, description={}, settings="?")
    assert voice_from_wire(odd) == voice_from_wire(wire("abc"))
    labelled = voice_from_wire(wire("abc", labels={"age": 30, "accent": "irish"}))
    assert labelled is not None
    assert labelled.labels == {"accent": "irish"}
    for none in (wire("../user"), wire(""), {}, {"voice_id": 5}, "voice", None):
        assert voice_from_wire(none) is None


async def test_what_is_looked_for_is_asked_as_the_vendor_calls_it() -> None:
    vendor = Vendor([page(wire("v1", category="premade"), token="a/b?c")])
    query = VoiceQuery(
        search="warm & low",
        category=VoiceCategory.BASIC,
        language="en",
        gender="female",
        page_size=20,
        page_token="x=y&z",
    )
    found = await vendor.voices.search(query, by=BY)
    [(method, path)] = vendor.asked
    assert (method, urlsplit(path).path) == ("GET", "/v2/voices")
    assert parse_qs(urlsplit(path).query) == {
        "page_size": ["20"],
        "next_page_token": ["x=y&z"],
        "search": ["warm & low"],
        "category": ["premade"],
        "language": ["en"],
        "gender": ["female"],
    }
    assert found.next_token == "a/b?c"


async def test_pages_that_hold_none_that_fits_are_passed_over_but_not_for_ever() -> None:
    query = VoiceQuery(category=VoiceCategory.CUSTOM)
    stock, own = wire("v1", category="premade"), wire("v2", category="cloned")
    vendor = Vendor([page(stock, token="1"), page(stock, own, token="2")])
    found = await vendor.voices.search(query, by=BY)
    assert ([voice.id for voice in found.voices], found.next_token) == (["v2"], "2")
    endless = Vendor([page(stock, token=str(number)) for number in range(9)])
    found = await endless.voices.search(query, by=BY)
    assert (found.voices, found.next_token) == ((), "4")
    assert len(endless.asked) == 5


@pytest.mark.parametrize(
    "odd",
    [
        page(wire(), token=7, more=True),
        page(wire(), token="", more=True),
        page(wire(), token="further", more=False),
        page(wire(), token="here", more=True),  # leads back to where we are
        page(wire(), token="x" * 2_000, more=True),
        Answer({"voices": [wire(), "voice", None, {"name": "no id"}]}),
    ],
)
async def test_a_page_that_leads_nowhere_is_the_last(odd: Answer) -> None:
    found = await Vendor([odd]).voices.search(VoiceQuery(page_token="here"), by=BY)
    assert ([voice.id for voice in found.voices], found.next_token) == (["v1"], None)


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"voices": None}),
        Answer([]),
        Answer(b"<html>"),
        Answer(b"x" * ((8 << 20) + 1)),
        Answer({}, status=500),
        VendorConnectionLost("gone", sent=True),
    ],
)
async def test_an_answer_that_is_none_is_the_vendors_failure(answer: Answer | Exception) -> None:
    with pytest.raises(VendorFailed):
        await Vendor([answer]).voices.search(VoiceQuery(), by=BY)


def a_sample(content: bytes, name: str, suffix: str = ".wav") -> Sample:
    recording = Recording(f"audio/{suffix[1:]}", suffix, timedelta(seconds=20), "0" * 64)
    return Sample(an_upload(content, name), recording)


def an_order(**changes: Any) -> CloneOrder:
    return CloneOrder(**{"name": "Zoë", "uploads": (), "consent": True, **changes})


async def test_samples_go_as_a_form_without_their_own_names() -> None:
    vendor = Vendor([Answer({"voice_id": "new1", "requires_verification": True})])
    order = an_order(description="Warm.", labels={"age": "old"}, remove_background_noise=True)
    samples = [a_sample(b"one", 'my "secret".wav'), a_sample(bytes(200_000), "b", ".mp3")]
    made = await vendor.voices.make(order, samples, by=BY)
    assert (made.id, made.requires_verification) == ("new1", True)
    assert vendor.asked == [("POST", "/v1/voices/add")]
    form = _form(vendor.content_type, vendor.sent[0])
    assert [(name, filename) for name, filename, _, _ in form] == [
        ("name", None),
        ("description", None),
        ("labels", None),
        ("remove_background_noise", None),
        ("files", "sample-01.wav"),
        ("files", "sample-02.mp3"),
    ]
    assert [content for *_, content in form] == [
        "Zoë".encode(),
        b"Warm.",
        b'{"age":"old"}',
        b"true",
        b"one",
        bytes(200_000),
    ]
    assert [kind for _, _, kind, _ in form][-2:] == ["audio/wav", "audio/mp3"]


def _form(content_type: str, body: bytes) -> list[tuple[Any, str | None, str, bytes]]:
    parts = message_from_bytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body)
    found = []
    for part in cast("list[Message]", parts.get_payload()):
        name = part.get_param("name", header="content-disposition")
        content = cast("bytes", part.get_payload(decode=True))
        found.append((name, part.get_filename(), part.get_content_type(), content))
    return found


def refusal(status: int, word: str) -> Answer:
    return Answer({"detail": {"status": word, "message": "…"}}, status)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (refusal(403, "can_not_use_instant_voice_cloning"), VendorPlanRequired),
        (refusal(402, "paid_plan_required"), VendorPlanRequired),
        (refusal(400, "voice_limit_reached"), VoiceSlotsFull),
        (refusal(400, "something_about_audio"), SamplesRejected),
        (Answer({"detail": [{"loc": ["body", "files"], "msg": "?"}]}, 422), SamplesRejected),
        (refusal(401, "missing_permissions"), NoUsableKey),
        (Answer({"requires_verification": False}), VendorFailed),
        (Answer({"voice_id": "../x"}), VendorFailed),
        (VendorConnectionLost("cut", sent=True), VendorFailed),
    ],
)
async def test_what_the_vendor_says_of_samples(
    answer: Answer | Exception, failure: type[Exception]
) -> None:
    with pytest.raises(failure):
        await Vendor([answer]).voices.make(an_order(), [a_sample(b"one", "a")], by=BY)


async def test_a_voice_that_is_gone_already_is_deleted() -> None:
    vendor = Vendor([Answer({"status": "ok"}), refusal(404, "voice_not_found")])
    for _ in range(2):
        await vendor.voices.remove(VoiceId("v1"), by=BY)
    assert vendor.asked == [("DELETE", "/v1/voices/v1")] * 2
    with pytest.raises(VendorFailed):
        await Vendor([Answer({}, 500)]).voices.remove(VoiceId("v1"), by=BY)


async def test_who_looks_for_voices_speaks_with_them_next() -> None:
    provider = FakeProvider()
    memory = RememberedVoices(provider)
    studio = RememberedStudio(FakeStudio(), memory)
    await studio.search(VoiceQuery(), by=BY)
    assert await memory.voice(VoiceId(RACHEL), by=BY) == VOICES[0]
    assert provider.looked_up == []
    await studio.remove(VoiceId(RACHEL), by=BY)
    provider.known = []
    with pytest.raises(VoiceNotFound):
        await memory.voice(VoiceId(RACHEL), by=BY)
