"""Bodies that carry a key to where none belongs."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.keyvault.harness import SECRET

# A name, the body, and the status that refuses it.
MISPLACED: list[tuple[str, Any, int]] = [
    ("number", {"api_key": 12345678}, 422),
    ("list", {"api_key": [SECRET]}, 422),
    ("object", {"api_key": {"value": SECRET}}, 422),
    ("null", {"api_key": None, "key": SECRET}, 422),
    ("missing", {"apikey": SECRET}, 422),
    ("extra", {"api_key": SECRET, "note": SECRET}, 422),
    ("extra named like the key", {"api_key": SECRET, SECRET: "x"}, 422),
    ("top-level string", SECRET, 422),
    ("top-level list", [SECRET], 422),
    ("too short", {"api_key": SECRET[:7]}, 422),
    ("too long", {"api_key": SECRET * 20}, 422),
    ("space inside", {"api_key": f"{SECRET} {SECRET}"}, 422),
    ("line inside", {"api_key": f"{SECRET}\r\nx: y"}, 422),
    ("NUL", {"api_key": f"{SECRET}\x00"}, 422),
    ("umlaut", {"api_key": f"{SECRET}ä"}, 422),
    ("surrogate", f'{{"api_key": "{SECRET}\\ud800"}}'.encode(), 422),
    ("cut", f'{{"api_key": "{SECRET}'.encode(), 400),
    ("no json", f"api_key={SECRET}".encode(), 400),
    ("trailing", f'{{"api_key": "{SECRET}"}} {SECRET}'.encode(), 400),
    ("latin-1", f'{{"api_key": "{SECRET}ä"}}'.encode("latin-1"), 400),
    ("deep", b"[" * 15_000, 400),
    ("huge number", b'{"api_key": ' + b"9" * 10_000 + b"}", 400),
    ("empty", b"", 422),
    ("too large", json.dumps({"api_key": SECRET, "x": "y" * 20_000}).encode(), 413),
]
