"""JSON of anything, for answers and logs that must be written whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import orjson


def to_json(value: Any) -> bytes:
    """The value as JSON; what JSON does not know is written as its text, and a moment ends in `Z`.

    What orjson refuses (numbers beyond 64 bits, lone surrogates, names that are no text) is left to
    the slower standard library, which escapes it.
    """
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z)
    except TypeError:
        return json.dumps(value, default=str, skipkeys=True).encode()
