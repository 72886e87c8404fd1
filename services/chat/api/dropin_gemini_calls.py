"""Bodies of Gemini's generateContent: https://ai.google.dev/api/generate-content

Names may be written in camelCase or in snake_case, also mixed, as Google's own SDK does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from services.chat.api.dropin_call import (
    Body,
    Size,
    VendorCall,
    features_of,
    hash_of,
    items,
    own_tools,
)
from services.chat.api.dropin_door import AsItCame, Framing
from services.chat.api.fields import Fields, json_object
from services.chat.domain.errors import UnsupportedParameter
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.turn import Surface
from shared.lenient_json import to_json
from shared.vendors.dropins import BadParameter

_NOT_OFFERED = ("cachedContent",)
# Other tiers of service have other prices, and the price list knows none of them.
_STANDARD = ("standard", "STANDARD", "unspecified", "UNSPECIFIED")
# What this product asks for unless the client says something else.
_CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
_THRESHOLD = "BLOCK_MEDIUM_AND_ABOVE"
# Sound and moving images have other prices, and nobody here can tell how many tokens they are.
_IMAGE = "image/"
_MEDIA = (_IMAGE, "text/", "application/pdf")
# Where the files lie that were stored at Gemini, and what it reads as a film whatever it is called.
_FILES_HOST = "generativelanguage.googleapis.com"
_FILM_HOSTS = ("youtube.com", "youtu.be")
_EVENTS = "?alt=sse"


def read_content(version: str, model: str, body: bytes) -> VendorCall:
    """A whole answer. Raises Invalid."""
    return _read(f"/{version}/models/{{model}}:generateContent", model, body, None)


def read_stream(version: str, model: str, body: bytes, *, as_events: bool) -> VendorCall:
    """A stream; its client may want one JSON array in place of events. Raises Invalid."""
    path = f"/{version}/models/{{model}}:streamGenerateContent{_EVENTS}"
    return _read(path, model, body, events if as_events else JsonArray)


def read_count(version: str, model: str, body: bytes) -> VendorCall:
    """A question for how many tokens a prompt has. Raises Invalid."""
    return VendorCall(
        surface=Surface.GEMINI,
        path=f"/{version}/models/{{model}}:countTokens",
        model=model,
        body=dict(json_object(body).whole),
        govern=_govern_count,
        framing=events,
        request_hash=b"",
        is_paid=False,
    )


def _read(path: str, model: str, body: bytes, framing: Any) -> VendorCall:
    fields = json_object(body)
    whole = dict(fields.whole)
    for name in _NOT_OFFERED:
        if _take(dict(whole), name) is not None:
            raise UnsupportedParameter(name)
    if (tier := _take(dict(whole), "serviceTier")) is not None and tier not in _STANDARD:
        raise UnsupportedParameter("serviceTier")
    config = _config_of(dict(whole))
    size = _size_of(whole)
    has_tools = own_tools(fields.objects("tools"), _is_own)
    way = framing.__name__.encode() if framing else b""
    return VendorCall(
        surface=Surface.GEMINI,
        path=path,
        model=model,
        body=whole,
        govern=_govern,
        framing=framing or events,
        request_hash=hash_of(path.encode(), model.encode(), way, body),
        input_estimate=size.estimate,
        is_open=size.is_open,
        streamed=framing is not None,
        max_output_tokens=_cap_of(config),
        features=features_of(size, has_tools, reasons=_reasons(config)),
    )


def _govern(body: Body, choice: ModelChoice, _end_user: str) -> None:
    body.pop("model", None)  # stands in the path
    config = _config_of(body)
    _cap_of(config)
    body["generationConfig"] = {**config, "maxOutputTokens": choice.max_output_tokens}
    body["safetySettings"] = _with_ours(_take(body, "safetySettings"))
    if body.get("store"):
        body["store"] = False


def _govern_count(body: Body, choice: ModelChoice, _end_user: str) -> None:
    body.pop("model", None)
    inner = _take(body, "generateContentRequest")
    if isinstance(inner, dict):
        body["generateContentRequest"] = {**inner, "model": f"models/{choice.model}"}


def _take(body: Body, name: str) -> Any:
    """The value under either spelling, taken out of the body. Raises BadParameter for both."""
    spelt = [spelling for spelling in {name, _snake(name)} if spelling in body]
    if len(spelt) > 1:
        raise BadParameter(name, "given once")
    return body.pop(spelt[0]) if spelt else None


def _config_of(body: Body) -> Body:
    """The generation config, taken out of the body, with the names that are governed taken out."""
    config = _take(body, "generationConfig") or {}
    if not isinstance(config, dict):
        raise BadParameter("generationConfig", "an object")
    config = dict(config)
    wished = {name: _take(config, name) for name in ("candidateCount", "responseModalities")}
    if wished["candidateCount"] not in (None, 1):
        raise BadParameter("generationConfig.candidateCount", "1, or absent")
    modalities = wished["responseModalities"]
    if modalities and modalities not in (["TEXT"], ["text"]):
        raise UnsupportedParameter("generationConfig.responseModalities")
    return config


def _cap_of(config: Body) -> int | None:
    cap = {"maxOutputTokens": _take(config, "maxOutputTokens")}
    return Fields(cap, "generationConfig.").count("maxOutputTokens")


def _with_ours(given: Any) -> list[Any]:
    settings = given or []
    if not isinstance(settings, list):
        raise BadParameter("safetySettings", "a list")
    named = [item.get("category") for item in items(settings)]
    ours = [f"HARM_CATEGORY_{category}" for category in _CATEGORIES]
    return [
        *settings,
        *({"category": name, "threshold": _THRESHOLD} for name in ours if name not in named),
    ]


def _is_own(tool: Fields) -> bool:
    return all(_snake(name) == "function_declarations" for name in tool.whole)


def _reasons(config: Body) -> bool:
    """Whether thinking is asked for."""
    thinking = _take(dict(config), "thinkingConfig")
    if not isinstance(thinking, dict):
        return False
    thinking = dict(thinking)
    return bool(_take(thinking, "thinkingLevel") or _take(thinking, "thinkingBudget"))


def _size_of(body: Body) -> Size:
    size, body = Size(), dict(body)
    contents, system = _take(body, "contents"), _take(body, "systemInstruction")
    size.add_text(contents, system)
    for content in _listed(contents):
        size.messages += 1
        _measure_parts(content, size)
    for content in _listed(system):
        _measure_parts(content, size)
    size.add_schema(_take(body, "tools"))
    size.add_schema(_take(body, "generationConfig"))
    return size


def _listed(value: Any) -> list[Body]:
    """The objects of a list that may be left out around one of them."""
    return items(value if isinstance(value, list) else [value])


def _measure_parts(content: Body, size: Size) -> None:
    for part in _listed(content.get("parts")):
        _measure(part, size)


def _measure(part: Body, size: Size) -> None:
    part = dict(part)
    if (file := _take(part, "fileData")) is not None:
        _measure_file(file, size)
    inline = _take(part, "inlineData")
    if isinstance(inline, dict):
        inline = dict(inline)
        kind = _take(inline, "mimeType")
        if isinstance(kind, str) and not kind.startswith(_MEDIA):
            raise UnsupportedParameter("inlineData.mimeType")
        _add(size, kind, inline.get("data"))
    result = _take(part, "functionResponse")
    for inner in items(result.get("parts")) if isinstance(result, dict) else []:
        _measure(inner, size)


def _measure_file(file: Any, size: Size) -> None:
    """A file that Gemini fetches. Raises UnsupportedParameter for one that lies at Gemini, and for
    one of which nobody says that it is neither sound nor moving images."""
    file = dict(file) if isinstance(file, dict) else {}
    uri, kind = _take(file, "fileUri"), _take(file, "mimeType")
    if not isinstance(uri, str) or not _is_elsewhere(uri):
        raise UnsupportedParameter("fileData")
    if not isinstance(kind, str) or not kind.startswith(_MEDIA):
        raise UnsupportedParameter("fileData.mimeType")
    if kind.startswith(_IMAGE):
        size.add_image()
    else:
        size.add_fetched_file()


def _is_elsewhere(uri: str) -> bool:
    """Whether it is an https URL, and not of a file that was stored at Gemini or of a film."""
    try:
        parts = urlsplit(uri)
        host = (parts.hostname or "").rstrip(".")
        host = host.encode("idna").decode()  # which other letters are the same, and other dots
    except ValueError:
        return False
    if "\\" in parts.netloc or "%" in host:
        return False  # of which others read another host
    at_vendor = host == _FILES_HOST or host.endswith(_FILM_HOSTS)
    return parts.scheme == "https" and bool(host) and not at_vendor


def _add(size: Size, kind: Any, encoded: Any) -> None:
    if isinstance(kind, str) and kind.startswith(_IMAGE):
        size.add_image(encoded)
    else:
        size.add_file(encoded, kind)


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def _error_event(error: Mapping[str, Any]) -> bytes:
    return b"data: %b\r\n\r\n" % to_json(error)


def events() -> Framing:
    """Server-sent events, as the vendor writes them."""
    return AsItCame(_error_event)


class JsonArray:
    """The same objects as one JSON array, which the vendor writes where no events are asked for."""

    media_type = "application/json"

    def __init__(self) -> None:
        self._begun = False

    def shown(self, data: bytes) -> bytes:
        events = (event.strip() for event in re.split(rb"\r\n\r\n|\n\n", data))
        return b"".join(self._next(event[5:].strip()) for event in events if event[:5] == b"data:")

    def failed(self, error: Mapping[str, Any]) -> bytes:
        return self._next(to_json(error))

    def end(self) -> bytes:
        return b"]\n" if self._begun else b"[]\n"

    def _next(self, document: bytes) -> bytes:
        before, self._begun = b",\r\n" if self._begun else b"[", True
        return before + document
