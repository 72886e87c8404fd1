"""What a process says that can't start as it was set: one sentence, and no value."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from shared.watched_file import UnusableFile

EXIT_CODE = 78
"""EX_CONFIG of sysexits.h, which supervisors may tell from a crash."""

# Parts of a place within a setting that can be told: names and numbers, nothing that looks like
# more than that.
_TELLABLE = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FIELD = re.compile(r'for field "(\w+)"')


class SettingsRefused(Exception):
    """A setting is missing, or can't be used: one sentence that names it and holds no value."""

    @classmethod
    def of(
        cls, error: ValidationError | SettingsError, names: Mapping[str, str]
    ) -> SettingsRefused:
        """What is wrong in one sentence; `names`: the setting of each field."""
        if isinstance(error, SettingsError):
            found = _FIELD.search(str(error))
            return cls(f"{names[found[1]] if found else 'A setting'} is not of the form of JSON.")
        troubles = error.errors(include_url=False, include_input=False)
        missing = [_setting(one["loc"], names) for one in troubles if one["type"] == "missing"]
        wrong = [_wrong(one, names) for one in troubles if one["type"] != "missing"]
        parts = [_missing(missing)] if missing else []
        return cls("; ".join([*parts, *dict.fromkeys(wrong)]) + ".")


@contextmanager
def stop_with_sentence() -> Iterator[None]:
    """End the process with the sentence, where settings are refused within."""
    try:
        yield
    except SettingsRefused as refused:
        print(refused, file=sys.stderr, flush=True)
        raise SystemExit(EXIT_CODE) from None


@contextmanager
def file_of(setting: str, path: Path) -> Iterator[None]:
    """Whatever fails within is about the file that this setting names. Raises SettingsRefused."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsRefused(f"{setting}: {path} can't be read ({reason}).") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SettingsRefused(f"{setting}: {path} can't be used{_told(error)}.") from error


@contextmanager
def port_of(setting: str, host: str, port: int) -> Iterator[None]:
    """Whatever the system refuses within is about this port. Raises SettingsRefused."""
    try:
        yield
    except OSError as error:
        # asyncio puts the address into the reason; the last part is the system's own.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise SettingsRefused(
            f"{setting}: nobody can listen on {host}:{port} ({reason})."
        ) from error


def _told(error: Exception) -> str:
    # This one was written for an operator; others may quote what they read.
    return f": {error}" if isinstance(error, UnusableFile) else ""


def _missing(names: Iterable[str]) -> str:
    *others, last = dict.fromkeys(names)
    if not others:
        return f"{last} is missing"
    return f"{', '.join(others)} and {last} are missing"


def _wrong(trouble: Any, names: Mapping[str, str]) -> str:
    place = trouble["loc"]
    said = str(trouble["msg"]).removeprefix("Value error, ").strip().rstrip(".")
    if not place:
        return said
    name = _setting(place, names)
    # A key that is not known may be anything.
    inner = place[1:-1] if trouble["type"] == "extra_forbidden" else place[1:]
    where = ".".join(str(part) for part in inner if _TELLABLE.fullmatch(str(part)))
    if name in said:
        return said
    if said.startswith("Input should"):
        said = "it" + said.removeprefix("Input")
    return f"{name}{f' ({where})' if where else ''}: {said}"


def _setting(place: tuple[int | str, ...], names: Mapping[str, str]) -> str:
    first = str(place[0])
    return names.get(first, first)
