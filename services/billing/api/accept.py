"""Which of our media types a client likes best (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

JSON = "application/json"


def liked_best(accept: str | None, offered: Sequence[str]) -> str:
    """One of `offered`: the first one when the client has no wish that we can fulfil."""
    best, best_quality = offered[0], 0.0
    for part in (accept or "").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found = _first_of(name, offered)
        quality = _quality(parameters)
        if found is not None and quality > best_quality:
            best, best_quality = found, quality
    return best


def _first_of(name: str, offered: Sequence[str]) -> str | None:
    """What a name, `text/*` or `*/*` means among ours."""
    if name == "*/*":
        return offered[0]
    kind, _, rest = name.partition("/")
    if rest == "*":
        return next((one for one in offered if one.startswith(f"{kind}/")), None)
    return name if name in offered else None


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
