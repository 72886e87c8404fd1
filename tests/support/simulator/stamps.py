"""Speech that tells in its first bytes when it was asked for and when it was sent.

By the machine's monotonic clock, which all of its processes share: whoever hears the speech on the
same machine can tell the way to the vendor from the way back.
"""

import struct
import time
from typing import Final, NamedTuple

_FORM: Final = struct.Struct("<dd")
STAMP_BYTES: Final = _FORM.size


class Stamps(NamedTuple):
    """Seconds of `time.monotonic()`."""

    asked: float
    sent: float


def stamped(piece: bytes, asked: float) -> bytes:
    """A first piece of audio that is sent now, as long as it was."""
    return _FORM.pack(asked, time.monotonic()) + piece[STAMP_BYTES:]


def stamps_of(audio: bytes) -> Stamps:
    """What the beginning of a stamped speech says. Raises struct.error for less than
    `STAMP_BYTES`."""
    return Stamps(*_FORM.unpack_from(audio))
