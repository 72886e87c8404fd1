"""Voices: lists, single voices, clones and settings."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import MultiMapping

from tests.support.simulator.call import Call
from tests.support.simulator.delivery import whole
from tests.support.simulator.elevenlabs.errors import invalid, no_voice, problem
from tests.support.simulator.elevenlabs.headers import headers_for
from tests.support.simulator.elevenlabs.studio import (
    DEFAULT_SETTINGS,
    VOICE_LIMIT,
    Studio,
    Studios,
    Voice,
)
from tests.support.simulator.keys import on_free_plan
from tests.support.simulator.refusals import Refused
from tests.support.simulator.wire import dump

_LARGEST_PAGE: Final = 100
_DEFAULT_PAGE: Final = "10"
_LABELS: Final = ("gender", "age", "accent", "language")
_OK: Final = {"status": "ok"}
_RANGES: Final = {
    "stability": (0.0, 1.0),
    "similarity_boost": (0.0, 1.0),
    "style": (0.0, 1.0),
    "clone_strength": (0.0, 1.0),
    "speed": (0.25, 4.0),
}


@dataclass(frozen=True, slots=True)
class Room:
    """The handlers share the studios of all accounts."""

    studios: Studios

    async def list_all(self, call: Call) -> web.StreamResponse:
        voices = [voice.as_json() for voice in self._studio(call).voices()]
        return await _reply(call, {"voices": voices})

    async def search(self, call: Call) -> web.StreamResponse:
        query = call.request.query
        size, token = query.get("page_size", _DEFAULT_PAGE), query.get("next_page_token", "0")
        if not size.isdigit() or not 1 <= int(size) <= _LARGEST_PAGE:
            message = "Input should be between 1 and 100"
            raise Refused(invalid("query", "page_size", message=message, kind="value_error"))
        start = int(token) if token.isdigit() else 0
        found = _found(self._studio(call).voices(), query)
        end = start + int(size)
        page = {
            "voices": [voice.as_json() for voice in found[start:end]],
            "has_more": end < len(found),
            "total_count": len(found),
            "next_page_token": str(end) if end < len(found) else None,
        }
        return await _reply(call, page)

    async def show(self, call: Call) -> web.StreamResponse:
        voice = self._voice(call)
        return await _reply(call, voice.as_json(self._studio(call).settings_of(voice)))

    async def add(self, call: Call) -> web.StreamResponse:
        form = await call.request.post()
        name, files = form.get("name"), form.getall("files", [])
        if not isinstance(name, str) or not name:
            raise Refused(invalid("body", "name"))
        if not files or any(isinstance(file, str) for file in files):
            raise Refused(invalid("body", "files"))
        studio = self._studio(call)
        if on_free_plan(call.key or ""):
            message = "Your subscription has no access to instant voice cloning."
            raise Refused(problem(403, "can_not_use_instant_voice_cloning", message))
        if studio.clones >= VOICE_LIMIT:
            message = "You have reached your maximum amount of custom voices."
            raise Refused(problem(400, "voice_limit_reached", message))
        voice = studio.clone(name, _labels(form), _description(form))
        return await _reply(call, {"voice_id": voice.id, "requires_verification": False})

    async def edit(self, call: Call) -> web.StreamResponse:
        form, voice = await call.request.post(), self._own_voice(call)
        name = form.get("name")
        if not isinstance(name, str) or not name:
            raise Refused(invalid("body", "name"))
        self._studio(call).rename(voice, name, _labels(form), _description(form))
        return await _reply(call, _OK)

    async def remove(self, call: Call) -> web.StreamResponse:
        self._studio(call).remove(self._own_voice(call))
        return await _reply(call, _OK)

    async def default_settings(self, call: Call) -> web.StreamResponse:
        return await _reply(call, DEFAULT_SETTINGS)

    async def settings(self, call: Call) -> web.StreamResponse:
        return await _reply(call, self._studio(call).settings_of(self._voice(call)))

    async def edit_settings(self, call: Call) -> web.StreamResponse:
        voice, settings = self._voice(call), await call.json()
        check_settings(settings, "body")
        self._studio(call).set_settings(voice, settings)
        return await _reply(call, _OK)

    def _studio(self, call: Call) -> Studio:
        return self.studios.of(call.key_sha256)

    def _voice(self, call: Call) -> Voice:
        return find_voice(self._studio(call), call.request.match_info["voice"])

    def _own_voice(self, call: Call) -> Voice:
        voice = self._voice(call)
        if not voice.is_cloned:
            message = "You can only change voices that you own."
            raise Refused(problem(403, "voice_not_owned", message))
        return voice


def find_voice(studio: Studio, voice_id: str) -> Voice:
    voice = studio.find(voice_id)
    if voice is None:
        raise Refused(no_voice(voice_id))
    return voice


def check_settings(settings: dict[str, Any], *place: str) -> None:
    for name, value in settings.items():
        if name not in _RANGES or value is None:
            continue
        lowest, highest = _RANGES[name]
        if not isinstance(value, int | float) or not lowest <= value <= highest:
            message = f"Input should be between {lowest} and {highest}"
            raise Refused(invalid(*place, name, message=message, kind="value_error"))


def _found(voices: Iterable[Voice], query: MultiMapping[str]) -> list[Voice]:
    found = [voice for voice in voices if _fits(voice, query)]
    if query.get("sort") == "name":
        found.sort(key=lambda voice: voice.name)
    if query.get("sort_direction") == "desc":
        found.reverse()
    return found


def _fits(voice: Voice, query: MultiMapping[str]) -> bool:
    search = query.get("search", "").lower()
    described = " ".join((voice.name, voice.description or "", *voice.labels.values())).lower()
    ids, category = query.getall("voice_ids", []), query.get("category")
    return (
        search in described
        and (not ids or voice.id in ids)
        and category in (None, voice.category)
        and _of_type(voice, query.get("voice_type"))
        and all(query.get(label) in (None, voice.labels.get(label)) for label in _LABELS)
    )


def _of_type(voice: Voice, wanted: str | None) -> bool:
    match wanted:
        case "personal" | "non-default":
            return voice.is_cloned
        case "default":
            return voice.category == "premade"
        case "community":
            return voice.needs_paid_plan
        case _:
            return True


def _labels(form: MultiMapping[Any]) -> dict[str, str]:
    """The SDK sends JSON that is no object when its caller gave no labels."""
    try:
        labels = orjson.loads(str(form.get("labels", "{}")))
    except orjson.JSONDecodeError:
        raise Refused(problem(400, "invalid_labels", "Labels must be JSON.")) from None
    return labels if isinstance(labels, dict) else {}


def _description(form: MultiMapping[Any]) -> str | None:
    description = form.get("description")
    return description if isinstance(description, str) else None


async def _reply(call: Call, value: Any) -> web.StreamResponse:
    return await whole(call, dump(value), headers_for(call))
