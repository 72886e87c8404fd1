"""Parts of an mp3 as one, without the silence that each part's encoder puts around it.

An encoder puts some samples before the sound, and fills up its last frame. In a single file players
know that and leave it out; between two parts it would be heard. So the frames that hold nothing
else are left out here. What a later frame needs of one that is left out goes into the frame that
now stands before it. All others stay as they came, and are decoded to the same samples.
"""

from __future__ import annotations

from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.mp3_frames import (
    HEADS,
    TICKS_PER_SECOND,
    USUAL_DELAY,
    Frame,
    end_of_head,
    frames_of,
    head_at,
)

_LARGEST_HEAD = 1 << 20  # what comes before the sound and is larger than this is no head
_ID3V1_BYTES = 128
# Of a part that is longer than so many frames the last ones are held back, since it may end there.
# So its beginning is never late; and what only looks like frames never is so many in a row.
_SURE = 16
_HELD = 2  # one that may be left out, and one that may have to lend its end
_DECODER_DELAY = 529  # samples that any decoder is behind
_SPARED = 64  # samples of sound that may be left out with the delay: a millisecond and a half


class Mp3Joint:
    """Frames after frames. What describes a single part is left out: tags, and the frame that tells
    a part's length, by which a player would end with the first part."""

    def __init__(self, _format: AudioFormat, parts: int) -> None:
        self._parts_to_come = parts  # with the one that is coming
        self._ticks = 0  # of whole frames, less those that were left out
        self._begins = 0  # ticks
        self._ending = b""  # the last frames of the part before
        self._coming = bytearray()
        self._is_opening = True
        self._at = 0  # where in `_coming` the next frame begins
        self._last = self._last_but_one = 0  # where the last frames began
        self._in_a_row = 0  # frames, with nothing between them

    @property
    def begins(self) -> float:
        return self._begins / TICKS_PER_SECOND

    def add(self, piece: bytes) -> bytes:
        self._coming += piece
        beginning = b""
        if self._is_opening:
            opened = self._open(is_whole=False)
            if opened is None:
                return b""
            beginning = opened
        self._look()
        return beginning + self._take(self._held_from if self._may_end_here else self._at)

    def end_part(self) -> bytes:
        beginning = self._open(is_whole=True) or b"" if self._is_opening and self._coming else b""
        self._look()
        if self._coming[self._at :][-_ID3V1_BYTES:].startswith(b"TAG"):
            del self._coming[-_ID3V1_BYTES:]
        is_clean = self._at == len(self._coming)
        if self._may_end_here and is_clean and self._last_but_one >= 0:
            beginning += self._take(self._last_but_one)
            self._ending = self._take(self._at)
        self._parts_to_come -= 1
        if not self._parts_to_come:
            beginning, self._ending = self._ending + beginning, b""
        heard = beginning + self._take(len(self._coming))
        self._is_opening, self._at, self._in_a_row = True, 0, 0
        self._begins = self._ticks - self._expected()
        return heard

    def cut(self) -> bytes:
        self._parts_to_come = 1
        return self.end_part()

    @property
    def _may_end_here(self) -> bool:
        """Whether another part may follow on what has come, and be joined to it."""
        return self._in_a_row >= _SURE and self._parts_to_come > 1

    @property
    def _held_from(self) -> int:
        return max(0, self._last_but_one)  # one that has gone is not held any more

    def _take(self, end: int) -> bytes:
        taken = bytes(self._coming[:end])
        del self._coming[:end]
        self._at -= end
        self._last -= end
        self._last_but_one -= end
        return taken

    def _look(self) -> None:
        """Go from frame to frame, as far as they have come."""
        coming, at = self._coming, self._at
        while at + 4 <= len(coming):
            found = HEADS.get(head_at(coming, at)[0] >> 9)
            if found is None:
                if (next_at := self._next_frame(at)) == at:
                    break
                at, self._in_a_row = next_at, 0
                continue
            length, ticks = found
            if at + length > len(coming):
                break
            self._last_but_one, self._last = self._last, at
            self._in_a_row += 1
            self._ticks += ticks
            at += length
        self._at = at

    def _next_frame(self, at: int) -> int:
        """After what is none: where the next one may begin. The end may be a tag."""
        latest = max(at, len(self._coming) - _ID3V1_BYTES)
        found = self._coming.find(0xFF, at + 1, latest)
        return latest if found < 0 else found

    def _open(self, *, is_whole: bool) -> bytes | None:
        """The part begins: answers what is heard before the rest of it; None while that can't be
        told."""
        head = end_of_head(self._coming)
        if head is None and not is_whole and len(self._coming) < _LARGEST_HEAD:
            return None
        start, delay = head or (0, 0)
        seam = self._seam(start, delay, is_whole=is_whole) if self._ending else b""
        if seam is None:
            return None
        del self._coming[:start]
        self._is_opening, self._ending = False, b""
        return seam

    def _seam(self, start: int, delay: int, *, is_whole: bool) -> bytes | None:
        """The end of the part before, which is to be heard now. The frames of the delay are taken
        from what has come, where they can be left out."""
        (one, last), _ = frames_of(self._ending, 0, _HELD)
        skipped = _frames_of_delay(last, delay)
        frames, is_short = frames_of(self._coming, start, skipped + 1)
        if is_short and not is_whole:
            return None
        is_alike = len(frames) > skipped and all(frame.kind == last.kind for frame in frames)
        seam = _lent(one, last, frames) if is_alike else None
        if seam is None:
            self._begins = self._ticks
            return self._ending
        del self._coming[start : start + sum(len(frame.raw) for frame in frames[:-1])]
        kept, ending = seam
        self._ticks -= (_HELD - kept) * last.ticks
        self._begins = self._ticks - skipped * last.ticks
        return ending

    def _expected(self) -> int:
        """By how many ticks the next part probably moves forward."""
        if not self._ending:
            return 0
        (_, last), _ = frames_of(self._ending, 0, _HELD)
        return (_frames_of_delay(last, USUAL_DELAY) + last.is_silent) * last.ticks


def _frames_of_delay(like: Frame, delay: int) -> int:
    return (delay + _DECODER_DELAY + _SPARED) // like.samples if delay else 0


def _lent(one: Frame, last: Frame, frames: list[Frame]) -> tuple[int, bytes] | None:
    """The end of a part, so that the last of `frames` can follow it in place of all of them: of how
    many frames it is, and their bytes. A last frame of silence is left out, if it need not lend its
    end."""
    left_out = b"".join(frame.body for frame in frames[:-1])
    borrowed = frames[-1].borrowed
    if borrowed > len(left_out):
        return None
    sound = left_out[len(left_out) - borrowed :]
    if last.is_silent and (lending := one.lending(sound)) is not None:
        return 1, lending
    lending = last.lending(sound)
    return None if lending is None else (2, one.raw + lending)
