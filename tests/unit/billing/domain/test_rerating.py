"""Rating anew: the entry costs what it does by the new price, and no gift is taken back."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from services.billing.domain.correction import Corrected, Correction, Deltas, Occasion
from services.billing.domain.ledger import Counts, Rating
from services.billing.domain.rerating import RATED_ANEW, Rerating
from shared.ids import EventId, UserId
from shared.money import MicroDollars
from tests.support.billing import NOON, a_price, an_entry

STAFF = UserId(uuid4())
OLD_COST = 1_500


def rerating(**prices: int) -> Rerating:
    """A price that somebody wants to hold for what was rated by another."""
    per_million = prices or {"input": 2_000_000, "output": 2_000_000}
    price = a_price("openai", "gpt-6-luna", since=NOON, **per_million)
    return Rerating(price, STAFF, NOON, after=EventId(uuid4()))


def an_occasion(reason: str = "The price was wrong.", source: str = "billing") -> Occasion:
    return Occasion(EventId(uuid4()), reason, STAFF, source, NOON)


def rated(*, corrections: tuple[Correction, ...] = (), **counts: int) -> Corrected:
    """1000 tokens in and 500 out, rated at 1,500 micro-dollars; 3,000 by the new price."""
    used = Counts(**(counts or {"input_tokens": 1_000, "output_tokens": 500}))
    entry = replace(an_entry(at=NOON), counts=used)
    return Corrected(entry.rated(Rating(MicroDollars(OLD_COST), "list/1")), corrections)


def adjusted(before: Corrected, deltas: Deltas, occasion: Occasion | None = None) -> Corrected:
    correction = before.adjusted(deltas, occasion or an_occasion())
    return replace(before, corrections=(*before.corrections, correction))


def cost_after(corrected: Corrected, by: Rerating) -> int | None:
    """What it costs once it is rated anew; None where it stays as it is."""
    correction = by.correction_of(corrected, an_occasion(by.reason))
    if correction is None:
        return None
    assert correction.deltas == Deltas(cost_microusd=correction.deltas.cost_microusd)
    return corrected.standing.cost_microusd + correction.deltas.cost_microusd


def test_an_entry_costs_what_it_does_by_the_new_price() -> None:
    assert cost_after(rated(), rerating()) == 3_000
    assert cost_after(rated(), rerating(input=500_000, output=500_000)) == 750
    assert cost_after(rated(), rerating(input=0, output=0)) == 0


def test_each_class_costs_its_own_new_price() -> None:
    used = rated(
        input_tokens=1_000,
        cache_read_tokens=100,
        cache_write_tokens=200,
        output_tokens=400,
        output_reasoning_tokens=50,
        characters=3,
        units=2,
    )
    new = rerating(
        input=1_000_000,
        cache_read=2_000_000,
        cache_write=3_000_000,
        output=10_000_000,
        characters=1_000_000_000,
        unit=100_000,
    )
    assert cost_after(used, new) == 700 + 200 + 600 + 4_000 + 3_000 + 200_000


def test_what_costs_the_same_is_left_as_it_is() -> None:
    assert cost_after(rated(), rerating(input=1_000_000, output=1_000_000)) is None


def test_what_was_voided_has_no_price_or_lacks_one_is_left_as_it_is() -> None:
    voided = replace(rated(), corrections=(rated().voided(an_occasion()),))
    unpriced = replace(rated(), entry=replace(rated().entry, rating=None))
    assert cost_after(voided, rerating()) is None
    assert cost_after(unpriced, rerating()) is None
    assert cost_after(rated(), rerating(input=2_000_000)) is None


def test_what_was_given_beside_the_rating_stays_given() -> None:
    given = adjusted(rated(), Deltas(cost_microusd=-100))
    assert cost_after(given, rerating()) == 2_900
    charged = adjusted(rated(), Deltas(cost_microusd=50))
    assert cost_after(charged, rerating()) == 3_050


def test_nobody_is_given_more_than_it_costs() -> None:
    given = adjusted(rated(), Deltas(cost_microusd=-1_000))
    assert cost_after(given, rerating(input=100_000, output=100_000)) == 0


@pytest.mark.parametrize(
    ("fewer", "cost"),
    [
        ({"input_tokens": -500}, 2_000),
        ({"output_tokens": -250}, 2_500),
        ({"characters": 4}, 3_000 + 4),
    ],
)
def test_other_counts_cost_the_new_price_of_these(fewer: dict[str, int], cost: int) -> None:
    """Whatever it was that they were told to cost."""
    other = adjusted(rated(), Deltas(**fewer, cost_microusd=-77))
    prices = {"input": 2_000_000, "output": 2_000_000, "characters": 1_000_000}
    assert cost_after(other, rerating(**prices)) == cost


def test_a_rating_anew_is_no_gift_of_the_one_before() -> None:
    first = rerating()
    correction = first.correction_of(rated(), an_occasion(first.reason))
    assert correction is not None
    again = rated(corrections=(correction,))
    assert first.reason == RATED_ANEW + first.price.version
    assert cost_after(again, first) is None
    assert cost_after(again, rerating(input=500_000, output=500_000)) == 750


def test_a_gift_is_known_by_who_gave_it_and_not_by_its_words_alone() -> None:
    words = an_occasion(f"{RATED_ANEW}mistake", source="chat")
    assert cost_after(adjusted(rated(), Deltas(cost_microusd=-100), words), rerating()) == 2_900


def test_a_cost_beyond_what_the_ledger_holds_is_left_as_it_is() -> None:
    most = 2**63 - 1
    over = adjusted(rated(), Deltas(cost_microusd=most - OLD_COST))
    assert cost_after(over, rerating()) is None
    just_over = adjusted(rated(), Deltas(cost_microusd=most - 2_999))
    assert cost_after(just_over, rerating()) is None
    fits = adjusted(rated(), Deltas(cost_microusd=most - 3_000))
    assert cost_after(fits, rerating()) == most
