"""A client's body in a vendor's wire: read for what has to be governed, otherwise left alone.

A body is parsed once and written once. Of names that stand in it twice the last one counts, for us
and so for the vendor.
"""

from __future__ import annotations

import hashlib
from binascii import a2b_base64
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from typing import Any

import orjson

from services.chat.api.data_url import SCHEME
from services.chat.api.dropin_door import Framing
from services.chat.api.fields import Fields
from services.chat.domain.errors import ToolNotOffered, UnsupportedParameter
from services.chat.domain.features import IMAGES, REASONING, TOOLS
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.raw_calls import RawCall
from services.chat.domain.turn import Surface
from services.chat.domain.usage import estimated_input, letters_of
from shared.values import dataclass
from shared.vendors.dropins import BadParameter

# An image stands for so many characters of a file that is sent along, as of a page of a document.
_FILE_CHARACTERS_PER_PAGE = 65_536
# Files that have pages: PDFs, which may begin a little later, and office's, of both its kinds. All
# others are read as text.
_PDF, _OFFICE = b"%PDF-", (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_TYPES_WITH_PAGES = (
    "application/pdf",
    "application/vnd.",
    "application/msword",
    "application/octet-stream",
)
_BEGINNING = 1_368  # characters of base64 for the first kilobyte
_URL_SAFE = str.maketrans("-_", "+/")

Body = dict[str, Any]
Govern = Callable[[Body, ModelChoice, str], None]


@dataclass(slots=True)
class Size:
    """What a prompt is made of, as far as its tokens are concerned."""

    letters: int = 0
    binary_letters: int = 0
    messages: int = 0
    images: int = 0
    # Whether there is a file that the vendor fetches, of which nobody here knows how long it is.
    is_open: bool = False

    def add_image(self, encoded: Any = None) -> None:
        """An image, and its bytes if they are in the body."""
        self.images += 1
        if isinstance(encoded, str):
            self.binary_letters += len(encoded)

    def add_file(self, encoded: Any = None, media_type: Any = None) -> None:
        """A document, whose pages are read like images, or a text. Its bytes are base64, or a data
        URL that tells their type."""
        self.images += 1
        if not isinstance(encoded, str):
            return
        start = 0
        if encoded.startswith(SCHEME):
            start = encoded.find(",") + 1
            media_type, _, encoding = encoded[len(SCHEME) : max(0, start - 1)].rpartition(";")
            if encoding != "base64":
                return  # a text as it stands
        if _has_pages(encoded[start : start + _BEGINNING], media_type):
            self.binary_letters += len(encoded)
            self.images += len(encoded) // _FILE_CHARACTERS_PER_PAGE
        else:
            self.binary_letters += len(encoded) // 4  # base64 has four for three

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

    def add_fetched_file(self) -> None:
        """A document of which there is only an address."""
        self.images += 1
        self.is_open = True

    def add_schema(self, value: Any) -> None:
        """Descriptions of tools, in which names count as well."""
        if value:
            self.letters += letters_of(written(value).decode())

    @property
    def estimate(self) -> int:
        text = max(0, self.letters - self.binary_letters)
        return estimated_input(text, self.messages, images=self.images)


def _has_pages(beginning: str, media_type: Any) -> bool:
    named = media_type.lower() if isinstance(media_type, str) else ""
    if named and not named.startswith(_TYPES_WITH_PAGES):
        return False
    plain = "".join(beginning.split()).translate(_URL_SAFE)
    try:
        content = a2b_base64(plain[: len(plain) // 4 * 4])
    except ValueError:
        return False
    return _PDF in content or content.startswith(_OFFICE)


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
    is_open: bool = False
    service_tier: str | None = None
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


def one_of(value: Any, words: Collection[str]) -> str | None:
    """The value, if it is one of these; what else it may be the vendor judges."""
    return value if isinstance(value, str) and value in words else None


def refuse(body: Mapping[str, Any], *names: str) -> None:
    """Raises UnsupportedParameter for what is given of these. An empty object is given as well: it
    has OpenAI search the web, for one."""
    for name in names:
        if body.get(name) not in (None, False):
            raise UnsupportedParameter(name)


def items(value: Any) -> list[Body]:
    """The objects of a list. What else is in it the vendor refuses better than we."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
