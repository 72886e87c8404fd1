"""What the login page carries from its first step to the second."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from services.auth.domain.errors import FirstStepOver
from services.auth.domain.first_step import FirstStep
from services.auth.domain.password import Password
from services.auth.domain.sealing import Sealer
from tests.support.auth import NOON, PASSWORD

SEALER = Sealer({1: b"k" * 32})
STEP = FirstStep("ada", Password(PASSWORD))
COOKIE = "a cookie"


def test_it_comes_back_as_it_was_for_five_minutes() -> None:
    carried = STEP.sealed(SEALER, COOKIE, NOON)
    late = NOON + timedelta(minutes=5)
    opened = FirstStep.opened(carried, SEALER, COOKIE, late - timedelta(seconds=1))
    assert opened == STEP
    with pytest.raises(FirstStepOver):
        FirstStep.opened(carried, SEALER, COOKIE, late)


def test_nobody_else_can_read_or_use_it() -> None:
    carried = STEP.sealed(SEALER, COOKIE, NOON)
    assert PASSWORD not in carried
    assert json.dumps("ada") not in carried
    for sealer, cookie in ((SEALER, "another cookie"), (Sealer({1: b"x" * 32}), COOKIE)):
        with pytest.raises(FirstStepOver):
            FirstStep.opened(carried, sealer, cookie, NOON)


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "A" * 5000, "%%%", "AAAAAQ=="])
def test_what_we_have_not_sealed_is_refused(text: str) -> None:
    with pytest.raises(FirstStepOver):
        FirstStep.opened(text, SEALER, COOKIE, NOON)


def test_each_changed_character_is_noticed() -> None:
    carried = STEP.sealed(SEALER, COOKIE, NOON)
    for place in range(0, len(carried), 7):
        other = "A" if carried[place] != "A" else "B"
        with pytest.raises(FirstStepOver):
            FirstStep.opened(carried[:place] + other + carried[place + 1 :], SEALER, COOKIE, NOON)
