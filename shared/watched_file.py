"""A file that may be replaced while we run: taken without a restart, and never trusted blindly."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LOOK_AGAIN_SECONDS = 1.0
# What parsing another's file may end in, beside OSError. Some libraries raise TypeError for JSON
# that is of another shape than they expect.
_UNUSABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

Version = tuple[int, int, int, int]


class UnusableFile(ValueError):
    """Says why a content can't be used, in words that hold nothing of it and may be logged."""


class WatchedFile(Generic[T]):
    """What a file says, read again within a second of its change.

    While a new file can't be used, or is gone, the last good content goes on serving: one mistake
    of an operator must not stop a process that works. What is logged holds nothing of the content.
    """

    def __init__(self, path: Path, parse: Callable[[str], T], *, name: str) -> None:
        self._path = path
        self._parse = parse
        self._name = name
        self._content: T | None = None
        self._version: Version | None = None
        self._looked_at = float("-inf")

    def load(self) -> T:
        """Read it now. Raises OSError, or what `parse` raises."""
        version = _version_of(self._path)
        content = self._parse(self._path.read_text("utf-8"))
        self._content, self._version, self._looked_at = content, version, time.monotonic()
        return content

    def current(self) -> T | None:
        """The newest good content; None when there never was any."""
        # Between two looks this costs one comparison, so that it may be asked for each request.
        if time.monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS:
            self._look()
        return self._content

    def _look(self) -> None:
        first = self._looked_at == float("-inf")
        self._looked_at = time.monotonic()
        # Taken before reading: if the file changes in between, the next look sees it.
        version = _version_of(self._path)
        if version == self._version and not first:
            return
        self._version = version
        try:
            self._content = self._parse(self._path.read_text("utf-8"))
        except OSError as error:
            self._say("unreadable", error.strerror or type(error).__name__)
        except UnusableFile as error:
            self._say("unusable", str(error))
        except _UNUSABLE as error:
            self._say("unusable", type(error).__name__)
        else:
            if not first:
                log.info("file_taken", name=self._name)

    def _say(self, trouble: str, reason: str) -> None:
        log.error(
            f"file_{trouble}",
            name=self._name,
            file=str(self._path),
            reason=reason,
            last_good_is_used=self._content is not None,
        )


def _version_of(path: Path) -> Version | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
