"""What is kept of a usage is all of it."""

from __future__ import annotations

from dataclasses import asdict

from services.chat.domain.usage import Usage


def test_a_record_has_every_part_and_the_total() -> None:
    usage = Usage(5, 1, 2, 7, 3, "counted", "flex")
    assert usage.to_record() == {**asdict(usage), "total_tokens": 12}
