"""CloudEvents in binary mode: the event's attributes are headers, and its data is the body."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers

_PREFIX = "ce-"
_MARK = "ce-specversion"
_QUOTED = re.compile(r'"(.*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def attributes_in(headers: Headers) -> dict[str, str | None] | None:
    """What the headers say of an event; None where they say nothing of one.

    What can't be read, or is said twice, is no text: it is None.
    """
    if _MARK not in headers:
        return None
    found: dict[str, str | None] = {}
    for name, value in headers.items():
        if name.startswith(_PREFIX):
            attribute = name.removeprefix(_PREFIX)
            found[attribute] = None if attribute in found else _read(value)
    return found


def _read(value: str) -> str | None:
    """UTF-8, percent-encoded or as it is, in quotes or without."""
    quoted = _QUOTED.fullmatch(value)
    text = _ESCAPED.sub(r"\1", quoted[1]) if quoted else value
    try:
        # Headers come as Latin-1, whatever they were written in.
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeDecodeError:
        return None
