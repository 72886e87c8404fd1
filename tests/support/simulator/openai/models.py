"""OpenAI's models and the parameters that each of them takes."""

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.delivery import whole
from tests.support.simulator.openai.errors import no_such_model
from tests.support.simulator.openai.headers import headers_for
from tests.support.simulator.refusals import Refused
from tests.support.simulator.wire import dump

_CREATED: Final = 1_790_000_000
_SHUT_DOWN: Final = "2026-10-23"


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    shutdown_date: str | None = None
    chat: bool = True
    reasons: bool = True
    takes_no_effort: bool = False
    takes_chat_tools: bool = True
    #: Tools on Chat Completions only with `reasoning_effort: "none"`.
    tools_need_no_effort: bool = False

    @property
    def is_gone(self) -> bool:
        return self.shutdown_date == _SHUT_DOWN

    def takes_temperature(self, effort: str | None) -> bool:
        if not self.reasons:
            return True
        return self.takes_no_effort and effort == "none"

    def takes_tools_in_chat(self, effort: str | None) -> bool:
        if self.tools_need_no_effort:
            return effort == "none"
        return self.takes_chat_tools

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "model",
            "created": _CREATED,
            "owned_by": "system",
            "shutdown_date": self.shutdown_date,
        }


_CHAT: Final = (
    Model("gpt-6-luna", takes_no_effort=True, tools_need_no_effort=True),
    Model("gpt-6-sol", takes_no_effort=True, tools_need_no_effort=True),
    Model("gpt-6.1-terra", takes_no_effort=True),
    Model("gpt-6.1-sol", takes_chat_tools=False),
    Model("gpt-6-astra", takes_chat_tools=False),
    Model("gpt-6.2-sol"),
    Model("gpt-6.2-astra"),
    Model("gpt-5.6-terra", takes_no_effort=True),
    Model("gpt-5", "2026-12-11"),
    Model("o3", "2026-12-11"),
    Model("gpt-4o", "2027-01-14", reasons=False),
    Model("gpt-4o-mini", "2027-01-14", reasons=False),
    Model("gpt-4", _SHUT_DOWN, reasons=False),
    Model("gpt-3.5-turbo", _SHUT_DOWN, reasons=False),
)
_NO_CHAT: Final = (
    "dall-e-3",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-tts",
    "gpt-audio-mini",
    "gpt-image-2",
    "gpt-realtime-2",
    "omni-moderation-latest",
    "sora-3",
    "text-embedding-3-small",
    "tts-1",
    "tts-1-hd",
    "whisper-1",
)
MODELS: Final = {
    model.id: model for model in (*_CHAT, *(Model(name, chat=False) for name in _NO_CHAT))
}
_LIST: Final = dump({"object": "list", "data": [model.as_json() for model in MODELS.values()]})


def find_model(name: object) -> Model:
    """A shut-down model stays in the list but answers nothing."""
    model = MODELS.get(str(name))
    if model is None or model.is_gone:
        raise Refused(no_such_model(str(name)))
    return model


async def list_all(call: Call) -> web.StreamResponse:
    return await whole(call, _LIST, headers_for(call))


async def show(call: Call) -> web.StreamResponse:
    name = call.request.match_info["model"]
    if name not in MODELS:
        raise Refused(no_such_model(name))
    return await whole(call, dump(MODELS[name].as_json()), headers_for(call))
