"""What was charged is given back once, be it by a credit note or by a correction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import NewType
from uuid import UUID

from shared.ids import UserId
from shared.values import dataclass

FamilyId = NewType("FamilyId", UUID)
"""Lines about the same money: what was used and the corrections of it (by the id of the line that
charged it), or all that a period of a subscription comes to."""

GIVEN_BACK = "given_back_microusd"
"""The fact of a line that says how much of it had been given back before, by credit notes."""


def family_of_period(holder: UserId, ends: datetime) -> FamilyId:
    """That of a period's charges: all of them end with it."""
    text = f"{holder}/{int(ends.timestamp())}"
    return FamilyId(UUID(bytes=hashlib.md5(text.encode(), usedforsecurity=False).digest()))


ROUNDINGS = 100
"""Micro-dollars that the roundings of a family's lines stay below. What is further below nothing an
earlier release has gathered there of other lines."""


@dataclass(frozen=True, slots=True)
class Family:
    """What lines of one family come to, in micro-dollars: `charged` by the lines, `credited` by
    credit notes, and `matched`: of these what lines had in mind when they gave back less. `since`
    the last credit note, lines have said that it is so much more, or less: of the sums that they
    stand for."""

    charged: int = 0
    credited: int = 0
    matched: int = 0
    since: int = 0

    @property
    def left(self) -> int:
        """What is charged and not given back."""
        return self.charged - self.credited

    @property
    def is_sound(self) -> bool:
        """Whether no more was given back than was charged, as far as credit notes have a part."""
        return self.left >= 0 or self.credited <= self.matched

    def match_of_correction(self, amount: int) -> int:
        """What a correction's amount is lessened by: it gives back what credit notes have not, and
        one upwards takes back what they stood for. Negative in the latter case. What came on top
        after the credit notes, none of them stands for: it goes first, and whole."""
        if amount >= 0:
            return -min(amount, max(0, self.matched))
        unmatched = self._unmatched
        rounded = min(-(self.left + amount), unmatched + ROUNDINGS)
        of_notes = min(unmatched, -amount - max(0, self.since))
        return max(0, min(-amount, max(of_notes, rounded)))

    def match_of_charge(self, amount: int) -> int:
        """The same of what is given back of a period: as much as is left of it."""
        return min(max(-amount, 0), self._unmatched, max(0, -(self.left + amount)))

    @property
    def _unmatched(self) -> int:
        return max(0, self.credited - self.matched)

    def with_line(self, amount: int, matched: int = 0) -> Family:
        """With one more line, as it is charged."""
        return replace(
            self,
            charged=self.charged + amount,
            matched=self.matched + matched,
            since=self.since + amount - matched,
        )


@dataclass
class FamilyBooks:
    """Families as they stand, with the lines that are just being made."""

    known: dict[FamilyId, Family] = field(default_factory=dict)

    @classmethod
    def of(cls, families: Mapping[FamilyId, Family]) -> FamilyBooks:
        return cls(dict(families))

    def add(self, family: FamilyId, amount: int) -> None:
        """A line that gives nothing back."""
        self.known[family] = self._get(family).with_line(amount)

    def correct(self, family: FamilyId, amount: int) -> int:
        """A correction's line; answers what it is lessened by."""
        return self._matched(family, amount, self._get(family).match_of_correction(amount))

    def charge(self, lines: Sequence[tuple[FamilyId, int]]) -> Sequence[int]:
        """Lines of charges; answers what each is lessened by. Whatever their order, what is charged
        is there before it is given back: a change of a plan credits first and charges then."""
        given = [0] * len(lines)
        for place in sorted(range(len(lines)), key=lambda place: lines[place][1] < 0):
            family, amount = lines[place]
            matched = self._get(family).match_of_charge(amount)
            given[place] = self._matched(family, amount, matched)
        return given

    def _matched(self, family: FamilyId, amount: int, matched: int) -> int:
        self.known[family] = self._get(family).with_line(amount + matched, matched)
        return matched

    def _get(self, family: FamilyId) -> Family:
        return self.known.get(family, Family())
