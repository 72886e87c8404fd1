"""What can go wrong for a person at the terminal."""

from __future__ import annotations


class CompanionError(Exception):
    """A failure that one sentence explains; `remedy` says what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()
