"""A client's body in a vendor's wire: read for what has to be governed, otherwise left alone.

A body is parsed once and written once. Of names that stand in it twice the last one counts, for us
and so for the vendor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.chat.api.dropin_door import Framing
from services.chat.api.fields import Fields
from services.chat.domain.errors import ToolNotOffered, UnsupportedParameter
from services.chat.domain.features import IMAGES, REASONING, TOOLS
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.raw_calls import RawCall
from services.chat.domain.turn import Surface
from services.chat.domain.usage import estimated_input, letters_of
from shared.vendors.dropins import BadParameter

# An image stands for so many characters of a file that is sent along, as of a page of a document.
_FILE_CHARACTERS_PER_PAGE = 65_536

Body = dict[str, Any]
Govern = Callable[[Body, ModelChoice, str], None]


@dataclass(slots=True)
class Size:
    """What a prompt is made of, as far as its tokens are concerned."""

    letters: int = 0
    binary_letters: int = 0
    messages: int = 0
    images: int = 0

    def add_image(self, encoded: Any = None) -> None:
        """An image, and its bytes if they are in the body."""
        self.images += 1
        if isinstance(encoded, str):
            self.binary_letters += len(encoded)

    def add_file(self, encoded: Any) -> None:
        """A document, whose pages are read like images."""
        size = len(encoded) if isinstance(encoded, str) else 0
        self.binary_letters += size
        self.images += 1 + size // _FILE_CHARACTERS_PER_PAGE

    def add_text(self, *values: Any) -> None:
        """All texts in these values, however deep."""
        todo = list(values)
        while todo:
            value = todo.pop()
            if isinstance(value, str):
                self.letters += letters_of(value)
            elif isinstance(value, dict):
                todo.extend(value.values())
            elif isinstance(value, list):
                todo.extend(value)

    def add_schema(self, value: Any) -> None:
        """Descriptions of tools, in which names count as well."""
        if value:
            self.letters += letters_of(written(value).decode())

    @property
    def estimate(self) -> int:
        text = max(0, self.letters - self.binary_letters)
        return estimated_input(text, self.messages, images=self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorCall:
    """A call of one vendor's wire. `path` may hold `{model}`."""

    surface: Surface
    path: str
    model: str
    body: Body
    govern: Govern
    framing: Callable[[], Framing]
    request_hash: bytes
    input_estimate: int = 0
    streamed: bool = False
    max_output_tokens: int | None = None
    features: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    is_paid: bool = True

    @property
    def provider(self) -> str:
        return self.surface.value

    def governed(self, choice: ModelChoice, *, end_user: str) -> RawCall:
        body = dict(self.body)
        self.govern(body, choice, end_user)
        return RawCall(
            provider=self.provider,
            path=self.path.format(model=choice.model),
            body=written(body),
            streamed=self.streamed,
            max_output_tokens=choice.max_output_tokens if self.is_paid else 0,
            headers=self.headers,
        )


def written(value: Any) -> bytes:
    """The value as JSON. Raises BadParameter for one that is nested deeper than can be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise BadParameter("body", "less deeply nested") from error


def hash_of(*parts: bytes) -> bytes:
    """What makes two requests the same request."""
    return hashlib.sha256(b"\x1f".join(parts)).digest()


def features_of(size: Size, *tools: Any, reasons: bool = False) -> frozenset[str]:
    """What a tier has to include for a prompt of this size and these tools; `reasons`: whether the
    model is asked to think."""
    wanted = {IMAGES: size.images, TOOLS: any(tools), REASONING: reasons}
    return frozenset(feature for feature, is_wanted in wanted.items() if is_wanted)


def own_tools(tools: Iterable[Fields], is_own: Callable[[Fields], bool]) -> bool:
    """Whether there are any. Raises ToolNotOffered for one that does not run at the client."""
    tools = list(tools)
    for tool in tools:
        if not is_own(tool):
            raise ToolNotOffered(tool.place)
    return bool(tools)


def refuse(body: Mapping[str, Any], *names: str) -> None:
    """Raises UnsupportedParameter for what is given of these. An empty object is given as well: it
    has OpenAI search the web, for one."""
    for name in names:
        if body.get(name) not in (None, False):
            raise UnsupportedParameter(name)


def items(value: Any) -> list[Body]:
    """The objects of a list. What else is in it the vendor refuses better than we."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
