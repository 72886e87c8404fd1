"""How a value stands in a CSV file that somebody opens with a spreadsheet."""

from __future__ import annotations

from datetime import datetime
from typing import Any

# A spreadsheet would run a text that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: Any) -> Any:
    """A value as it stands in a CSV: no text of it can be a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(_FORMULA) and not _is_amount(value):
        return f"'{value}"
    return value


def _is_amount(text: str) -> bool:
    # Dollars that are given back: a number with a sign, and nothing that could be run.
    return text[0] == "-" and text[1:].replace(".", "", 1).isdecimal() and text.isascii()
