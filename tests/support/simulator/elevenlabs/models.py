"""ElevenLabs' models; the list is a bare array."""

import math
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.delivery import whole
from tests.support.simulator.elevenlabs.headers import headers_for
from tests.support.simulator.wire import dump

DEFAULT: Final = "eleven_multilingual_v2"
_LANGUAGES: Final = (("en", "English"), ("de", "German"), ("ja", "Japanese"), ("es", "Spanish"))


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    longest_text: int
    credits_per_character: float = 1.0
    speaks: bool = True
    takes_language: bool = True

    @property
    def takes_socket(self) -> bool:
        """The newest generations stream over the dialogue socket only."""
        return self.speaks and not self.id.startswith(("eleven_v3", "eleven_v4"))

    def cost(self, characters: int) -> int:
        return math.ceil(characters * self.credits_per_character)

    def as_json(self) -> dict[str, Any]:
        old = self.id == DEFAULT
        return {
            "model_id": self.id,
            "name": self.id.replace("_", " ").title(),
            "description": "A simulated model.",
            "can_be_finetuned": old,
            "can_do_text_to_speech": self.speaks,
            "can_do_voice_conversion": not self.speaks,
            "can_use_style": old,
            "can_use_speaker_boost": old,
            "serves_pro_voices": False,
            "token_cost_factor": 1.0,
            "requires_alpha_access": False,
            "max_characters_request_free_user": self.longest_text,
            "max_characters_request_subscribed_user": self.longest_text,
            "maximum_text_length_per_request": self.longest_text,
            "languages": [{"language_id": key, "name": name} for key, name in _LANGUAGES],
            "model_rates": {
                "character_cost_multiplier": self.credits_per_character,
                "cost_discount_multiplier": 1.0,
            },
            "concurrency_group": "standard" if self.credits_per_character == 1 else "turbo",
        }


_ALL: Final = (
    Model("eleven_v4", 10_000),
    Model("eleven_v4_turbo", 10_000, 0.5),
    Model("eleven_v3", 5_000),
    Model("eleven_v3_conversational", 5_000),
    Model(DEFAULT, 10_000, takes_language=False),
    Model("eleven_flash_v2_5", 40_000, 0.5),
    Model("eleven_flash_v2", 30_000, 0.5),
    Model("eleven_turbo_v2_5", 40_000, 0.5),
    Model("eleven_turbo_v2", 30_000, 0.5),
    Model("eleven_english_sts_v2", 10_000, speaks=False),
)
MODELS: Final = {model.id: model for model in _ALL}
_LIST: Final = dump([model.as_json() for model in _ALL])


async def list_all(call: Call) -> web.StreamResponse:
    return await whole(call, _LIST, headers_for(call))
