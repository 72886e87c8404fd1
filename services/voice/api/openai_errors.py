"""Failures as OpenAI's SDKs read them, for the route that stands in for OpenAI's speech."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Response

from services.voice.domain.errors import (
    AlreadySpoken,
    FormatNotInTier,
    FormatNotInVendorPlan,
    SpeechStopped,
    TextNotInTier,
    TextNotSpeakable,
    VoiceModelNotInTier,
    VoiceNotFound,
    VoiceNotInTier,
)
from shared.clients.egress import KeyRefused
from shared.errors import ExpectedFailure, LimitReached
from shared.http.openai_errors import (
    LIMIT_FACTS,
    SHOWN,
    SPENT,
    Shown,
    nearest,
    openai_errors,
    route_class,
    told,
)
from shared.lenient_json import to_json

__all__ = ["OpenAIRoute", "error_document", "error_response", "openai_errors"]

_MONTH = ".characters_per_month"
_SHOWN: Mapping[type[ExpectedFailure], Shown] = {
    **SHOWN,
    TextNotSpeakable: Shown(400, param="input"),
    TextNotInTier: Shown(param="input", final=True),
    VoiceNotFound: Shown(param="voice"),
    VoiceNotInTier: Shown(param="voice", final=True),
    VoiceModelNotInTier: Shown(param="model", final=True),
    FormatNotInTier: Shown(param="response_format", final=True),
    AlreadySpoken: Shown(final=True),
    SpeechStopped: Shown(final=True),
    KeyRefused: Shown(403, final=True),
    FormatNotInVendorPlan: Shown(403, param="response_format", final=True),
}
_FACTS = (*LIMIT_FACTS, "formats", "models", "speech_id", "usage")


def error_response(failure: ExpectedFailure, *, charged: bool = False) -> Response:
    """One of our failures as an answer. `charged`: after audio was made, and so paid for."""
    status, document, headers = told(failure, _shown(failure), final=charged, facts=_FACTS)
    return Response(to_json(document), status, headers, media_type="application/json")


def error_document(failure: ExpectedFailure) -> dict[str, Any]:
    """OpenAI's error object for one of our failures."""
    return told(failure, _shown(failure), final=False, facts=_FACTS)[1]


def _shown(failure: ExpectedFailure) -> Shown:
    if isinstance(failure, LimitReached) and str(failure.facts.get("scope")).endswith(_MONTH):
        return SPENT
    return nearest(failure, _SHOWN)


OpenAIRoute = route_class(error_response)
