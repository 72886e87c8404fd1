"""From when on an operator's terms hold."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.billing.domain.effect import effective_since
from services.billing.domain.errors import EffectiveFromPast
from tests.support.billing import NOON


def test_terms_hold_from_now_on_or_later() -> None:
    later = NOON + timedelta(days=3)
    assert effective_since(None, NOON) == NOON
    assert effective_since(later, NOON) == later
    # A form takes a moment to be sent.
    assert effective_since(NOON - timedelta(minutes=1), NOON) == NOON


def test_what_is_over_keeps_the_terms_of_its_time() -> None:
    past = NOON - timedelta(minutes=1, microseconds=1)
    with pytest.raises(EffectiveFromPast) as refusal:
        effective_since(past, NOON)
    assert refusal.value.facts["effective_from"] == past
