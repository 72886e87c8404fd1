"""What may be asked of one answer, by the start settings, by a fault or in the prompt itself.

    [[sim:chunks=50,delay_ms=10]]   [[sim:fault=rate_limit,retry_after=3]]   [[sim:cut]]

All three speak the same words, so that whatever a test can do through the control API a black box
test can do through a prompt.
"""

import re
from collections.abc import Mapping
from typing import Final

NUMBERS: Final = frozenset(
    {
        "chunks",
        "chunk_delay_ms",
        "first_byte_delay_ms",
        "at",
        "stall_ms",
        "patience_ms",
        "retry_after",
        "retry_after_ms",
        "reasoning",
        "cached",
        "cache_write",
        "input",
        "output",
        "calls",
        "continuation",
    }
)
WORDS: Final = frozenset({"fault", "tool", "finish", "block", "form", "should_retry"})
FLAGS: Final = frozenset(
    {"split", "odd", "u2028", "nousage", "refuse", "wrapped", "tool", "stamped"}
)
ALIASES: Final = {"delay_ms": "chunk_delay_ms", "first_ms": "first_byte_delay_ms"}

#: Ways in which an answer that has begun goes wrong.
DISRUPTIONS: Final = frozenset(
    {
        "stall",
        "cut",
        "reset",
        "truncate",
        "stream_error",
        "stream_error_flat",
        "stream_error_bare",
        "stream_failed",
    }
)
#: Ways in which no answer comes at all.
SILENCES: Final = frozenset({"connection_reset", "connection_close"})
#: Faults that only set options.
MANNERS: Final[Mapping[str, Mapping[str, str]]] = {
    "pace": {},
    "slow_first_byte": {"first_byte_delay_ms": "2000"},
    "slow_chunks": {"chunk_delay_ms": "200"},
    "split_multibyte": {"split": "1"},
    "odd_frames": {"odd": "1"},
    "no_usage": {"nousage": "1"},
    "refusal": {"refuse": "1"},
    "blocked_prompt": {"block": "SAFETY"},
    "continuation": {"continuation": "1"},
}
_BARE: Final = DISRUPTIONS | SILENCES | MANNERS.keys()
_DEFAULTS: Final = {"continuation": "1", "block": "SAFETY"}
_MARK: Final = re.compile(r"\[\[sim:([^\]]*)\]\]")


class UnknownOption(ValueError):
    """A typo in a directive should not look like a passing test."""


class Options(dict[str, str]):
    """Checked options of one answer."""

    def number(self, name: str, default: int = 0) -> int:
        return int(self[name]) if name in self else default

    def seconds(self, name: str, default_ms: int = 0) -> float:
        """The value of an option that is given in milliseconds."""
        return int(self.get(name, default_ms)) / 1000

    def over(self, other: Mapping[str, str]) -> "Options":
        """These options where they speak, the others where they are silent."""
        return Options({**other, **self}) if other else self

    @property
    def disruption(self) -> str | None:
        kind = self.get("fault")
        return kind if kind in DISRUPTIONS else None


def checked(given: Mapping[str, object]) -> Options:
    """Options by their full names, with the faults that only set options spelled out."""
    found = Options()
    for name, value in given.items():
        _check_one(found, ALIASES.get(name, name), str(value))
    manner = MANNERS.get(found.get("fault", ""))
    if manner is None:
        return found
    del found["fault"]
    return found.over(manner)


def _check_one(found: Options, name: str, value: str) -> None:
    if name in NUMBERS:
        if not value.isdigit():
            raise UnknownOption(f"{name} needs a number, not {value!r}.")
    elif name not in WORDS and name not in FLAGS:
        raise UnknownOption(f"The simulator knows no option {name!r}.")
    found[name] = value


def read_directives(text: str) -> tuple[str, Options]:
    """The text without its directives, and what they ask for."""
    if "[[sim:" not in text:
        return text, Options()
    given: dict[str, str] = {}
    for mark in _MARK.findall(text):
        given |= dict(_items(mark))
    return _MARK.sub("", text), checked(given)


def _items(mark: str) -> list[tuple[str, str]]:
    items = []
    for part in mark.split(","):
        name, given, value = (word.strip() for word in part.partition("="))
        if not given and name in _BARE and name not in _DEFAULTS:
            name, value = "fault", name
        items.append((name, value if given or value else _DEFAULTS.get(name, "1")))
    return items
