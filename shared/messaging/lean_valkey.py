"""kombu's way through Valkey, without what costs most of it: a batch is half a megabyte, and kombu
writes it in base64 and reads and writes it twice with Python's own JSON.

A body is kept as the text that it is, and what surrounds it goes through a faster JSON. Any kombu
reads such a message, and messages of any kombu are read here.
"""

from __future__ import annotations

from typing import Any

import orjson
from kombu.transport import redis
from kombu.utils import json

# At once from Valkey: the usual is a fifteenth of a batch.
_READ_BYTES = 512 * 1024

# It has more than its types tell.
_KOMBU: Any = redis

# How kombu's JSON marks what JSON has no word for.
_MARKED = {"__type__", "__value__"}
_BEYOND_64_BITS = 2.0**63


class Channel(_KOMBU.Channel):  # type: ignore[misc]  # as above
    """A channel that writes a body of text as text."""

    body_encoding = None
    _known: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One for all short questions: it borrows a connection of the pool for each, and making one
        takes longer than a question."""
        if asynchronous:
            return super()._create_client(asynchronous)
        if self._known is None or self._known.connection_pool is not self.pool:
            self._known = super()._create_client()
        return self._known

    def _connparams(self, asynchronous: bool = False) -> Any:
        parameters = super()._connparams(asynchronous)
        if asynchronous:  # the one that messages come by
            parameters["socket_read_size"] = _READ_BYTES
        return parameters

    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        if encoding is None and isinstance(body, bytes):
            try:
                return body.decode(), None
            except UnicodeDecodeError:
                encoding = "base64"
        return super().encode_body(body, encoding)  # type: ignore[no-any-return]  # as above

    def decode_body(self, body: Any, encoding: str | None = None) -> Any:
        if encoding is None and isinstance(body, str):
            # Whoever reads it then says that half a character is none.
            return body.encode(errors="surrogatepass")
        return super().decode_body(body, encoding)


class Transport(_KOMBU.Transport):  # type: ignore[misc]  # as above
    """kombu's transport, with our channel."""

    Channel = Channel


class _Came(dict[str, Any]):
    """A message as it came, with the text that it was: kombu writes each anew to note that it is
    not acknowledged."""

    text = ""


def _dumps(value: Any) -> bytes | str:
    try:
        if isinstance(value, list) and value and isinstance(value[0], _Came):
            others = b"".join(b"," + orjson.dumps(one) for one in value[1:])
            return b"".join((b"[", value[0].text.encode(), others, b"]"))
        return orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError:
        return str(json.dumps(value))


def _loads(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:  # it is stricter
        return json.loads(text)
    if _is_kombus(value):
        return json.loads(text)
    if isinstance(value, dict):
        value = _Came(value)
        value.text = text
    return value


def _is_kombus(value: Any) -> bool:
    """Whether kombu's own JSON would read it as something else."""
    if isinstance(value, float):
        return abs(value) >= _BEYOND_64_BITS  # perhaps a whole number, which kombu reads exactly
    if isinstance(value, dict):
        return value.keys() == _MARKED or any(map(_is_kombus, value.values()))
    return isinstance(value, list) and any(map(_is_kombus, value))


# Its channel's methods know no other way to be given a JSON than the names in their module.
_KOMBU.dumps, _KOMBU.loads = _dumps, _loads
