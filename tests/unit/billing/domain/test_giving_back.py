"""A family of lines: whatever is credited and corrected, what was charged is given back once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.crediting import (
    CreditedSoFar,
    CreditRequest,
    WantedCredit,
    credited_lines,
)
from services.billing.domain.errors import CreditExceedsLine, NothingToCredit
from services.billing.domain.giving_back import (
    ROUNDINGS,
    Family,
    FamilyBooks,
    FamilyId,
    family_of_period,
)
from services.billing.domain.invoice import InvoiceLine
from shared.ids import UserId
from tests.support.billing_documents import an_invoice, some_usage

ACTS = st.lists(
    st.tuples(st.sampled_from(["credit", "less", "more"]), st.integers(0, 100)), max_size=12
)
THEM = UserId(uuid4())


@given(charged=st.integers(0, 10**9), acts=ACTS)
def test_whatever_the_order_no_more_is_given_back_than_was_charged(
    charged: int, acts: list[tuple[str, int]]
) -> None:
    family, stands = Family(charged), charged
    for act, percent in acts:
        if act == "credit":
            given = family.left * percent // 100
            family = replace(family, credited=family.credited + given, since=0)
            continue
        amount = -(stands * percent // 100) if act == "less" else charged * percent // 100
        stands += amount
        matched = family.match_of_correction(amount)
        family = family.with_line(amount + matched, matched)
        # What is to be given back is given back at most, and what is to be charged is charged.
        assert min(amount, 0) <= amount + matched <= max(amount, 0)
        assert 0 <= family.matched <= family.credited
    assert max(0, stands - family.credited) <= family.left <= stands
    assert family.is_sound


@given(charged=st.integers(0, 10**9), acts=ACTS)
def test_of_a_period_favours_add_up_to_all_of_it(charged: int, acts: list[tuple[str, int]]) -> None:
    family, back = Family(charged), 0
    for act, percent in acts:
        if act == "credit":
            given = family.left * percent // 100
            family = replace(family, credited=family.credited + given, since=0)
        elif act == "less":
            amount = -((charged - back) * percent // 100)
            back -= amount
            matched = family.match_of_charge(amount)
            family = family.with_line(amount + matched, matched)
            assert amount <= amount + matched <= 0
    assert family.left >= 0
    assert family.left == charged - back - family.credited + family.matched
    assert family.is_sound


def test_a_correction_takes_no_more_back_than_a_release_before_had_given_twice() -> None:
    """What was given back twice then stays with whom it was given to."""
    family = Family(charged=0, credited=100)
    assert not family.is_sound
    assert family.match_of_correction(-30) == 30
    assert family.match_of_correction(30) == 0
    assert family.match_of_charge(-30) == 30


def test_what_came_on_top_after_a_credit_note_goes_first() -> None:
    raised = Family(charged=100, credited=30).with_line(60)
    assert raised.match_of_correction(-60) == 0
    assert raised.match_of_correction(-80) == 20
    assert raised.match_of_correction(-160) == 30
    lowered = Family(charged=100, credited=30).with_line(-30 + 30, 30).with_line(30 - 30, -30)
    assert lowered.match_of_correction(-20) == 20


def test_what_was_gathered_elsewhere_is_kept_back_from_nobody() -> None:
    """A release before put corrections of several lines into one family, which is below nothing
    since; what is due of it now has been given back by nobody."""
    gathered = Family(charged=-20_000)
    assert gathered.match_of_correction(-40_000) <= ROUNDINGS
    some_credited = Family(charged=-20_000, credited=10_000)
    assert 10_000 <= some_credited.match_of_correction(-40_000) <= 10_000 + ROUNDINGS


def test_lines_that_are_just_made_count() -> None:
    one, books = FamilyId(uuid4()), FamilyBooks.of({})
    books.add(one, 100)
    assert [books.correct(one, amount) for amount in (-60, -60)] == [0, 20]
    period = FamilyId(uuid4())
    books = FamilyBooks.of({period: Family(charged=50, credited=50)})
    assert books.charge([(period, amount) for amount in (-20, 30, -30)]) == [0, 0, 20]
    assert books.known[period].left == 0


def test_a_period_is_known_by_its_end() -> None:
    ends = datetime(2026, 12, 4, 10, 15, tzinfo=UTC)
    assert family_of_period(THEM, ends) == family_of_period(THEM, ends)
    others = {family_of_period(THEM, ends + timedelta(seconds=1)), family_of_period(uuid(), ends)}
    assert family_of_period(THEM, ends) not in others
    assert len(others) == 2


def uuid() -> UserId:
    return UserId(uuid4())


def family_lines(*amounts: int) -> tuple[list[InvoiceLine], FamilyId]:
    first = some_usage(1, amount_microusd=amounts[0])
    family = FamilyId(UUID(str(first.id)))
    rest = [
        some_usage(position, amount_microusd=amount, family=family)
        for position, amount in enumerate(amounts[1:], 2)
    ]
    return [first, *rest], family


def asked(*lines: WantedCredit) -> CreditRequest:
    return CreditRequest(lines, "Not used.", "once", THEM)


def test_all_that_is_left_is_what_the_family_has_left() -> None:
    lines, family = family_lines(100, -40)
    before = CreditedSoFar({}, {family: Family(charged=60)})
    invoice = an_invoice(*lines)
    [all_of_it] = credited_lines(invoice, before, asked(WantedCredit(lines[0].id)))
    assert all_of_it.amount_microusd == 60
    assert [one.amount_microusd for one in credited_lines(invoice, before, asked())] == [100, -40]
    with pytest.raises(CreditExceedsLine) as refused:
        credited_lines(invoice, before, asked(WantedCredit(lines[0].id, 61)))
    assert refused.value.facts["left_microusd"] == 60
    nothing = CreditedSoFar({}, {family: Family(charged=100, credited=100)})
    with pytest.raises(NothingToCredit):
        credited_lines(invoice, nothing, asked(WantedCredit(lines[0].id)))


@given(
    amounts=st.lists(st.integers(-1_000, 1_000), min_size=1, max_size=5),
    elsewhere=st.integers(-3_000, 0),
    wanted=st.lists(st.none() | st.integers(-1_000, 1_000), min_size=5, max_size=5),
)
def test_no_request_takes_more_than_the_family_has(
    amounts: list[int], elsewhere: int, wanted: list[int | None]
) -> None:
    lines, family = family_lines(*amounts)
    left = max(0, sum(amounts) + elsewhere)
    before = CreditedSoFar({}, {family: Family(charged=sum(amounts) + elsewhere)})
    wishes = [WantedCredit(line.id, want) for line, want in zip(lines, wanted, strict=False)]
    try:
        credited = credited_lines(an_invoice(*lines), before, asked(*wishes))
    except (CreditExceedsLine, NothingToCredit):
        return
    total = sum(one.amount_microusd for one in credited)
    assert total <= left or all(one.amount_microusd < 0 for one in credited)
    for one in credited:
        assert one.amount_microusd * (1 if one.line.amount_microusd > 0 else -1) >= 0
        assert abs(one.amount_microusd) <= abs(one.line.amount_microusd)
