"""Bytes inside of a URL: `data:<media type>;base64,<data>`, as all doors take images."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from services.chat.domain.images import registered_type

SCHEME = "data:"


class DataUrl(NamedTuple):
    """What such a URL holds, and what it says that this is, as it is registered."""

    media_type: str
    content: bytes


class NotBase64(ValueError):
    """The data is not what it is said to be."""


def read_data_url(url: str) -> DataUrl | None:
    """None for what is no data URL, or one without base64. Raises NotBase64."""
    head, comma, data = url.partition(",")
    described, _, encoding = head.removeprefix(SCHEME).rpartition(";")
    if not url.startswith(SCHEME) or not comma or encoding != "base64":
        return None
    return DataUrl(registered_type(described), read_base64(data))


def read_base64(data: str) -> bytes:
    """Raises NotBase64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotBase64 from error
