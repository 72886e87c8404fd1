"""What Gemini refuses in a request before any model sees it."""

from base64 import b64encode
from typing import Any, Final

from tests.support.simulator.gemini.errors import error
from tests.support.simulator.gemini.fields import pick, snake
from tests.support.simulator.gemini.models import Model
from tests.support.simulator.names import names
from tests.support.simulator.refusals import Refused

Json = dict[str, Any]

_SIGNED: Final = b64encode(b"simulated").decode()
_FOREIGN: Final = "skip_thought_signature_validator"

_FIELDS: Final = names(
    """cachedContent contents continuationToken generationConfig labels model safetySettings
    serviceTier store systemInstruction toolConfig tools"""
)
_CONFIG: Final = names(
    """audioTimestamp candidateCount enableEnhancedCivicAnswers frequencyPenalty imageConfig
    logprobs maxOutputTokens mediaResolution presencePenalty responseJsonSchema responseLogprobs
    responseMimeType responseModalities responseSchema seed speechConfig stopSequences temperature
    thinkingConfig topK topP"""
)
_CATEGORIES: Final = frozenset(
    f"HARM_CATEGORY_{name}"
    for name in (
        "HARASSMENT",
        "HATE_SPEECH",
        "SEXUALLY_EXPLICIT",
        "DANGEROUS_CONTENT",
        "CIVIC_INTEGRITY",
        "JAILBREAK",
    )
)
_THRESHOLDS: Final = frozenset(
    {"BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"}
)


def check_content(model: Model, body: Json) -> None:
    _known_fields(body, _FIELDS, "")
    check_contents(body.get("contents"))
    if body["contents"][-1].get("role") == "model":
        raise _bad("The last turn must not be a model turn.")
    config = pick(body, "generationConfig") or {}
    _known_fields(config, _CONFIG, " at 'generation_config'")
    if (pick(config, "candidateCount") or 1) != 1:
        raise _bad("Multiple candidates is not enabled for this model.")
    _thinking(model, pick(config, "thinkingConfig") or {})
    for setting in pick(body, "safetySettings") or ():
        _safety(setting)


def check_contents(contents: Any) -> None:
    if not isinstance(contents, list) or not contents:
        raise _bad("contents is not specified")
    for content in contents:
        if content.get("role", "user") not in ("user", "model"):
            raise _bad("Please use a valid role: user, model.")
        parts = content.get("parts")
        if not isinstance(parts, list) or not parts:
            raise _bad("contents.parts must not be empty.")
        for part in parts:
            _part(part)
        _signed([part for part in parts if pick(part, "functionCall")])


def _signed(calls: list[Json]) -> None:
    """Of calls that were made at once, the first one carries the signature, or what stands for that
    of a call that another vendor made."""
    if not calls:
        return
    signature = pick(calls[0], "thoughtSignature")
    if not signature:
        raise _bad("Function call is missing a thought_signature in functionCall parts.")
    call_id = pick(calls[0], "functionCall").get("id")
    # A client may leave the id out: then it is of some call.
    is_ours = signature == signature_of(call_id) if call_id else str(signature).startswith(_SIGNED)
    if not is_ours and signature != _FOREIGN:
        raise _bad("Thought signature is not valid.")


def signature_of(call_id: object) -> str:
    return _SIGNED + b64encode(str(call_id).encode()).decode()


def signatures_in(contents: list[Json]) -> int:
    """How many of its own it was given back."""
    signatures = (pick(part, "thoughtSignature") for turn in contents for part in turn["parts"])
    return sum(1 for signature in signatures if signature not in (None, _FOREIGN))


def _part(part: Json) -> None:
    inline = pick(part, "inlineData")
    if inline and not pick(inline, "mimeType"):
        raise _bad("inline_data.mime_type must be specified.")


def _bad(message: str) -> Refused:
    return Refused(error(400, message))


def _known_fields(fields: Json, known: frozenset[str], place: str) -> None:
    for name in fields:
        if name not in known and not any(snake(other) == name for other in known):
            raise _bad(
                f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
            )


def _thinking(model: Model, config: Json) -> None:
    level, budget = pick(config, "thinkingLevel"), pick(config, "thinkingBudget")
    if level and budget is not None:
        raise _bad("You can only set only one of thinking budget and thinking level.")
    if budget is not None and not model.takes_budget:
        raise _bad("Thinking budget is not supported for this model.")
    if level and str(level).upper() not in model.levels:
        raise _bad(f"Thinking level {level} is not supported for this model.")


def _safety(setting: Json) -> None:
    if setting.get("method"):
        raise _bad("method is not supported.")
    if setting.get("category") not in _CATEGORIES:
        raise _bad("Invalid safety category.")
    if setting.get("threshold") not in _THRESHOLDS:
        raise _bad("Invalid safety threshold.")
