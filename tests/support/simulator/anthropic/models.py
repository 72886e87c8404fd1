"""Anthropic's models with their capabilities, and the paged list of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.anthropic.errors import error
from tests.support.simulator.anthropic.headers import headers_for
from tests.support.simulator.call import Call
from tests.support.simulator.delivery import whole
from tests.support.simulator.refusals import Refused
from tests.support.simulator.wire import dump

_CREATED: Final = "2026-09-01T00:00:00Z"
_LARGEST_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    lifecycle: str = "active"
    retires_at: str | None = None
    context: int = 1_000_000
    max_tokens: int = 128_000
    #: Until the 4.5 generation a model could be given the beginning of its answer.
    takes_prefill: bool = False
    #: Only with the old API version.
    takes_temperature: bool = False
    always_thinks: bool = False

    @property
    def line(self) -> str:
        return self.id.split("-")[1]

    def as_json(self) -> dict[str, Any]:
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.id.replace("-", " ").title(),
            "created_at": _CREATED,
            "lifecycle": self.lifecycle,
            "deprecated_at": None if self.lifecycle == "active" else _CREATED,
            "retires_at": self.retires_at,
            "line": self.line,
            "max_input_tokens": self.context,
            "max_tokens": self.max_tokens,
            "capabilities": self._capabilities(),
        }

    def _capabilities(self) -> dict[str, Any]:
        new = not self.takes_prefill
        simple = ("image_input", "pdf_input", "citations", "structured_outputs", "batch")
        efforts = {level: _is(new) for level in ("low", "medium", "high", "xhigh", "max")}
        thinking = {
            "adaptive": _is(new),
            "enabled": _is(not self.always_thinks),
            "disabled": _is(not self.always_thinks),
            "between_tools": _is(new),
        }
        return {
            **{name: _is(True) for name in simple},
            "code_execution": _is(new),
            "thinking": {"supported": True, "types": thinking},
            "effort": {"supported": new, **efforts},
            "server_tools": {
                "supported": True,
                "web_search": _is(True),
                "code_execution": _is(new),
            },
            "context_management": _is(new),
        }


def _is(supported: bool) -> dict[str, bool]:
    return {"supported": supported}


_ALL: Final = (
    Model("claude-haiku-5-5", takes_temperature=True),
    Model("claude-sonnet-5-5"),
    Model("claude-opus-5-5", always_thinks=True),
    Model("claude-fable-5-2", always_thinks=True),
    Model("claude-mythos-5-2", always_thinks=True),
    Model("claude-sonnet-4-6", takes_temperature=True),
    Model(
        "claude-haiku-4-5",
        context=200_000,
        max_tokens=64_000,
        takes_prefill=True,
        takes_temperature=True,
    ),
    Model(
        "claude-sonnet-4-5",
        "deprecated",
        "2026-11-30T00:00:00Z",
        context=200_000,
        max_tokens=64_000,
        takes_prefill=True,
        takes_temperature=True,
    ),
    Model(
        "claude-opus-4-1",
        "retired",
        "2026-08-05T00:00:00Z",
        context=200_000,
        max_tokens=32_000,
        takes_prefill=True,
        takes_temperature=True,
    ),
)
MODELS: Final = {model.id: model for model in _ALL}


def find_model(name: object) -> Model:
    model = MODELS.get(str(name))
    if model is None or model.lifecycle == "retired":
        raise Refused(error(404, f"model: {name}"))
    return model


async def list_page(call: Call) -> web.StreamResponse:
    query = call.request.query
    limit = query.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= _LARGEST_PAGE:
        raise call.refused(400, f"limit: must be between 1 and {_LARGEST_PAGE}")
    wanted = query.getall("lifecycle[]", [])
    models = [model for model in _ALL if not wanted or model.lifecycle in wanted]
    models = _between(models, query.get("after_id"), query.get("before_id"))
    page = models[: int(limit)]
    listed = {
        "data": [model.as_json() for model in page],
        "has_more": len(models) > len(page),
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }
    return await whole(call, dump(listed), headers_for(call))


def _between(models: Sequence[Model], after: str | None, before: str | None) -> list[Model]:
    ids = [model.id for model in models]
    start = ids.index(after) + 1 if after in ids else 0
    end = ids.index(before) if before in ids else len(ids)
    return list(models[start:end])


async def show(call: Call) -> web.StreamResponse:
    """The catalogue also remembers the models that answer no more."""
    name = call.request.match_info["model"]
    if name not in MODELS:
        raise Refused(error(404, f"model: {name}"))
    return await whole(call, dump(MODELS[name].as_json()), headers_for(call))
