"""A call that has begun while its hold is being written."""

from __future__ import annotations

import pytest

from shared.ahead import Ahead
from shared.revocation import KeyInUse, KeyOfCall


class Begun:
    def __init__(self) -> None:
        self.left = 0

    def leave(self) -> None:
        self.left += 1


def an_ahead(withdrawals: int = 3) -> tuple[Begun, Ahead[Begun]]:
    begun = Begun()
    return begun, Ahead(begun, KeyOfCall(KeyInUse()), withdrawals)


def test_it_is_gone_on_with_where_no_key_was_withdrawn_since() -> None:
    begun, ahead = an_ahead()
    assert ahead.unless_withdrawn(3) is ahead
    assert begun.left == 0


@pytest.mark.parametrize("now", [4, 7])
def test_it_is_broken_off_where_one_was(now: int) -> None:
    begun, ahead = an_ahead()
    assert ahead.unless_withdrawn(now) is None
    assert begun.left == 1


def test_leaving_is_passed_on() -> None:
    begun, ahead = an_ahead()
    ahead.leave()
    assert begun.left == 1
