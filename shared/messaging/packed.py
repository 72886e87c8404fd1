"""Long messages travel packed: a batch of usage is then a fifth to a tenth of what it was, in the
broker, in each queue that has it, and on its way through a worker's parent process. Valkey has a
third more of it: kombu writes bytes in base64 there.

The form is kombu's own (zlib, RFC 1950, told by the header `compression`), so that any kombu of any
age unpacks it. https://docs.celeryq.dev/projects/kombu/en/stable/userguide/serialization.html
"""

from __future__ import annotations

from typing import cast

from isal import isal_zlib
from kombu import compression

from shared.messaging.batch import UnreadableBody

METHOD = "application/x-gzip"
"""What kombu calls zlib."""
PACKED_FROM_BYTES = 16 * 1024
"""A shorter body is sent as it is, so that it can be read where it lies."""

_QUICKLY = 1
# Of what comes. The longest batch of usage is under two million bytes; one of keys, each with as
# many long names of models as are kept, would just fit.
_MOST_BYTES = 64 * 1024 * 1024
# No JSON begins with it, and every zlib stream of the usual window does.
_FIRST_BYTE = b"x"
_NAMES = ["gzip", "zlib"]
_NOT_ZLIB = cast("type[Exception]", isal_zlib.error)


class Packed(bytes):
    """A body that is still as it came."""


def pack(body: bytes) -> bytes:
    """It as a zlib stream."""
    return isal_zlib.compress(body, _QUICKLY)


def unpacked(body: bytes | str) -> bytes:
    """The body itself, whether it came packed or not. Raises UnreadableBody."""
    if isinstance(body, str):  # as RabbitMQ's client hands on what it can decode
        return body.encode(errors="surrogatepass")
    if not body.startswith(_FIRST_BYTE):
        return bytes(body)  # the plain type, the only one that the fast JSON takes
    reader = isal_zlib.decompressobj()
    try:
        text = reader.decompress(body, _MOST_BYTES)
    except _NOT_ZLIB as error:
        raise UnreadableBody from error
    if not reader.eof or reader.unused_data:
        raise UnreadableBody
    return text


def leave_packed() -> None:
    """For all that this process receives from now on: kombu hands packed bodies on as Packed."""
    compression.register(pack, Packed, METHOD, _NAMES)


# kombu's own takes seven times as long to pack, and two to three times to unpack.
compression.register(pack, isal_zlib.decompress, METHOD, _NAMES)
