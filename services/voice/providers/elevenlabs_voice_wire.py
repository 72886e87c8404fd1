"""A voice as ElevenLabs writes it: https://elevenlabs.io/docs/api-reference/voices/get

Everything but its id may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.voice.domain.voice import Voice, VoiceCategory, VoiceId

# One that the vendor adds later counts as premium, so that no free tier gets it by surprise.
_CATEGORIES: Mapping[str, VoiceCategory] = {
    "premade": VoiceCategory.BASIC,
    "cloned": VoiceCategory.CUSTOM,
    "generated": VoiceCategory.CUSTOM,
    "professional": VoiceCategory.PREMIUM,
    "famous": VoiceCategory.PREMIUM,
    "high_quality": VoiceCategory.PREMIUM,
}
_FINE_ID = re.compile(r"[A-Za-z0-9]{1,64}\Z")


def voice_from_wire(wire: Any) -> Voice | None:
    """None for what can't be used: a voice whose id is no id."""
    voice_id = wire.get("voice_id") if isinstance(wire, dict) else None
    if not isinstance(voice_id, str) or not _FINE_ID.match(voice_id):
        return None
    labels = wire.get("labels")
    return Voice(
        id=VoiceId(voice_id),
        name=_text(wire, "name") or voice_id,
        category=_category(wire),
        labels=_texts(labels) if isinstance(labels, dict) else {},
        preview_url=_text(wire, "preview_url"),
        description=_text(wire, "description"),
    )


def _category(wire: Mapping[str, Any]) -> VoiceCategory:
    name = wire.get("category")
    # A professional voice of the account's own was trained for it; others are out of the library.
    if name == "professional" and wire.get("is_owner") is True:
        return VoiceCategory.ENTERPRISE
    return _CATEGORIES.get(str(name), VoiceCategory.PREMIUM)


def _text(wire: Mapping[str, Any], name: str) -> str | None:
    value = wire.get(name)
    return value if isinstance(value, str) and value else None


def _texts(labels: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if isinstance(value, str)}
