"""Nothing key-shaped leaves a process: patterns of known keys, tokens and headers that carry them.

For redaction only; a key is never *validated* by its shape, vendors change those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from uuid import UUID

REDACTED = "[redacted]"

_SHAPES = re.compile(
    r"sk-ant-[A-Za-z0-9_-]{8,}"
    r"|sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{8,}"
    r"|\bsk_[A-Za-z0-9]{16,}\b"
    r"|\bAIza[A-Za-z0-9_-]{20,}"
    r"|\bAQ\.[A-Za-z0-9_-]{16,}"
    r"|\bya29\.[A-Za-z0-9_-]{16,}"
    r"|\bttc_[A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}"
)
_PAIRS = re.compile(
    r"(?i)((?:xi-api-key|x-api-key|x-goog-api-key|api[_-]?key|authorization|password|secret"
    r"|access_token|refresh_token|[?&]key)[\"']?\s*[:=]\s*[\"']?)"
    r"(?!\[redacted\])(?:(?:basic|digest|token)\s+)?[^\s\"',}&]+"
)
_SECRET_NAMES = re.compile(
    r"(?i)(^|[_-])(api_?key|key|authorization|password|secret|token|credential|cookie)s?$"
)
# Names that end in one of the words above and hold no secret.
_HARMLESS_NAMES = frozenset({"idempotency_key", "routing_key", "max_tokens"})
_HARMLESS_KINDS = (bool, int, float, date, timedelta, UUID, type(None))


def redact_text(text: str) -> str:
    """The text without anything that looks like a key, a token or a password."""
    return _PAIRS.sub(rf"\1{REDACTED}", _SHAPES.sub(REDACTED, text))


def redact(value: Any, name: str = "") -> Any:
    """The value, with secrets replaced at any depth, by their field's name or by their shape."""
    if isinstance(value, _HARMLESS_KINDS):
        return value
    if _names_a_secret(name):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return redact_text(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {redact_text(str(key)): redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    # An exception, say: what will be written of it is its text.
    return redact_text(str(value))


def _names_a_secret(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return plain not in _HARMLESS_NAMES and bool(_SECRET_NAMES.search(plain))
