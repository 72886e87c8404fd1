"""Stop sequences for a wire or a model that has none: the answer is read on, but not passed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.chat.domain.frames import Began, Ended, Frame, Text
from services.chat.providers._wire import Reader
from shared.errors import ExpectedFailure


class StoppingReader:
    """Passes on text up to the first stop sequence, also one that comes in several pieces.

    What follows is read for its usage alone, since the vendor writes and charges it all the same.
    Text that may be the beginning of a stop sequence waits for what comes next.
    """

    def __init__(self, reader: Reader, stops: Sequence[str]) -> None:
        self._reader = reader
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self._stopped = False
        self._ended = False

    def feed(self, data: bytes) -> Sequence[Frame]:
        return self._read(lambda: self._reader.feed(data))

    def end(self) -> Sequence[Frame]:
        return self._read(self._reader.end)

    def _read(self, read: Callable[[], Sequence[Frame]]) -> Sequence[Frame]:
        if self._stopped and self._ended:
            return ()
        try:
            return self._through(read())
        except ExpectedFailure:
            if not self._stopped:
                raise
            # What the user asked for is complete; only the usage was lost.
            self._ended = True
            return [Ended("stop", None, why="stop_sequence")]

    def _through(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        passed: list[Frame] = []
        for frame in frames:
            if isinstance(frame, Text):
                self._say(self._held + frame.text, passed)
            elif isinstance(frame, Ended):
                self._release(passed)
                passed.append(self._last(frame))
            elif not self._stopped or isinstance(frame, Began):
                self._release(passed)
                passed.append(frame)
        return passed

    def _say(self, text: str, passed: list[Frame]) -> None:
        if self._stopped:
            return
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self._stopped, self._held = True, ""
            text = text[: min(places)]
        else:
            safe = len(text) - self._beginning_of_a_stop(text)
            text, self._held = text[:safe], text[safe:]
        if text:
            passed.append(Text(text))

    def _beginning_of_a_stop(self, text: str) -> int:
        """How many characters at the end of the text a stop sequence begins with, at most."""
        return max(
            size for stop in self._stops for size in range(len(stop)) if text.endswith(stop[:size])
        )

    def _release(self, passed: list[Frame]) -> None:
        if self._held:
            passed.append(Text(self._held))
            self._held = ""

    def _last(self, frame: Ended) -> Ended:
        self._ended = True
        return Ended("stop", frame.usage, why="stop_sequence") if self._stopped else frame


def stopping(reader: Reader, stops: Sequence[str]) -> Reader:
    """The reader, with these stop sequences."""
    return StoppingReader(reader, stops) if any(stops) else reader
