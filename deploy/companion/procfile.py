"""The Procfile: one readable line `name: command` for each process."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.companion.errors import CompanionError

_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*):\s*(?P<command>\S.*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def read_procfile(path: Path) -> dict[str, str]:
    """The commands by name, in the file's order. Raises CompanionError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise CompanionError(
            f"The Procfile {path} can't be read: {error.strerror}.",
            "Run companion from its checkout.",
        ) from error
    return parse_procfile(text, where=path.name)


def parse_procfile(text: str, *, where: str = "Procfile") -> dict[str, str]:
    """The commands by name; empty lines and lines that start with # say nothing."""
    commands: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise CompanionError(f"{where}:{number} is not of the form `name: command`.")
        if match["name"] in commands:
            raise CompanionError(f"{where}:{number} names {match['name']} a second time.")
        commands[match["name"]] = match["command"]
    return commands


def expand(name: str, command: str, variables: Mapping[str, str | Sequence[str]]) -> list[str]:
    """The words of a command with its `$VARIABLES` filled in.

    No shell is involved: a value is never split into words, but a variable that holds a list and
    stands alone becomes as many words (or none).
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CompanionError(f"The command of {name} can't be read: {error}.") from error
    expanded = [part for word in words for part in _expand_word(name, word, variables)]
    if not expanded:
        raise CompanionError(f"The command of {name} is empty.")
    # A virtual environment always has `python`, a bare machine often only `python3`.
    return [sys.executable if expanded[0] == "python" else expanded[0], *expanded[1:]]


def _expand_word(
    name: str, word: str, variables: Mapping[str, str | Sequence[str]]
) -> Sequence[str]:
    def value_of(match: re.Match[str]) -> str | Sequence[str]:
        variable = match[1] or match[2]
        if variable not in variables:
            raise CompanionError(f"The command of {name} uses ${variable}, which is not set.")
        return variables[variable]

    def text_of(match: re.Match[str]) -> str:
        value = value_of(match)
        if not isinstance(value, str):
            raise CompanionError(f"In the command of {name}, {match[0]} must stand alone.")
        return value

    alone = _VARIABLE.fullmatch(word)
    if alone is not None:
        value = value_of(alone)
        return [value] if isinstance(value, str) else value
    return [_VARIABLE.sub(text_of, word)]
