"""What becomes of a subscription, held against a model that knows no periods' ends in advance."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.domain.billing_cycle import (
    Course,
    Rules,
    Step,
    bought,
    brought_up_to,
    cancelled,
    course_of,
    ended,
    ending,
    granted,
    paid,
    payment_failed,
    resumed,
    scheduled,
    tried,
    unit_price,
    upgraded,
)
from services.billing.domain.charge import Charge, ChargeKind
from services.billing.domain.errors import (
    NothingToCancel,
    NothingToResume,
    PaymentOutstanding,
    TooManyTrialSeats,
    TrialNotOffered,
    TrialUsed,
)
from services.billing.domain.plan_price import PlanPrice, PlanPrices, UnitPrice
from services.billing.domain.subscription import State, Subscription
from shared.ids import UserId
from shared.tiers import TIERS

ADA, STAFF = UserId(uuid4()), UserId(uuid4())
FREE = Subscription.initial(ADA)
RULES = Rules()
PRICES = PlanPrices()
DAY = timedelta(days=1)
JAN31 = datetime(2026, 1, 31, 10, tzinfo=UTC)
PRO, TEAM = TIERS["pro"], TIERS["enterprise"]


def buy(tier: str = "pro", seats: int = 1, at: datetime = JAN31) -> Subscription:
    return bought(FREE, TIERS[tier], seats, PRICES.at(tier, at), at).subscription


def kinds(step: Step) -> list[tuple[str, int]]:
    return [(charge.kind.value, charge.amount_microusd) for charge in step.charges]


def test_a_purchase_charges_a_whole_period_and_begins_it_at_that_second() -> None:
    step = bought(FREE, TEAM, 3, PRICES.at("enterprise", JAN31), JAN31.replace(microsecond=7))
    team = step.subscription
    assert kinds(step) == [("period_fee", 45_000_000)]
    assert (team.period_begins, team.period_ends) == (
        JAN31,
        datetime(2026, 2, 28, 10, tzinfo=UTC),
    )
    assert (team.state, team.tier_name, team.seats) == (State.ACTIVE, "enterprise", 3)
    [fee] = step.charges
    assert (fee.tier_name, fee.seats) == ("enterprise", 3)
    assert (fee.unit_price_microusd, fee.price_version) == (15_000_000, "tiers/15000000")
    assert team.next_step_at == team.period_ends


def test_an_upgrade_gives_back_and_charges_the_rest_to_the_second() -> None:
    step = upgraded(buy(), TEAM, 2, PRICES.at("enterprise", JAN31), JAN31 + 7 * DAY)
    assert kinds(step) == [("proration_credit", -6_750_000), ("proration_debit", 22_500_000)]
    assert step.subscription.period_ends == buy().period_ends
    assert {charge.effect_key for charge in step.charges} == {
        f"change/{ADA}/2/credit",
        f"change/{ADA}/2/debit",
    }


def test_more_seats_cost_what_seats_cost_when_the_period_began() -> None:
    dearer = PlanPrice("enterprise", JAN31 + DAY, 30_000_000, STAFF, JAN31)
    prices = PlanPrices.of([dearer])
    team = bought(FREE, TEAM, 1, prices.at("enterprise", JAN31), JAN31).subscription
    now = JAN31 + 14 * DAY
    assert unit_price(team, TEAM, now, prices).microusd == 15_000_000
    step = upgraded(team, TEAM, 3, unit_price(team, TEAM, now, prices), now)
    assert step.amount_microusd == 15_000_000
    renewed = brought_up_to(step.subscription, JAN31 + 30 * DAY, prices, RULES)
    assert kinds(renewed) == [("period_fee", 90_000_000)]
    assert renewed.subscription.price_version == dearer.unit.version


def test_a_larger_tier_costs_what_it_costs_now() -> None:
    dearer = PlanPrice("enterprise", JAN31 + DAY, 30_000_000, STAFF, JAN31)
    prices = PlanPrices.of([dearer])
    now = JAN31 + 14 * DAY
    assert unit_price(buy(), TEAM, now, prices) == dearer.unit
    assert unit_price(buy(), TEAM, JAN31, prices) == PRICES.at("enterprise", JAN31)


def test_less_waits_for_the_end_of_the_period_and_can_be_taken_back() -> None:
    team = buy("enterprise", 5)
    unit = PRICES.at("enterprise", JAN31)
    assert course_of(team, TEAM, 3, unit) is Course.LATER
    fewer = scheduled(team, TEAM, 3, JAN31 + DAY).subscription
    assert (fewer.seats, fewer.next_seats, fewer.revision) == (5, 3, 2)
    assert course_of(fewer, TEAM, 3, unit) is Course.NOTHING
    back = scheduled(fewer, TEAM, 5, JAN31 + 2 * DAY).subscription
    assert (back.next_tier_name, back.revision) == (None, 3)
    later = brought_up_to(fewer, JAN31 + 29 * DAY, PRICES, RULES)
    assert kinds(later) == [("period_fee", 45_000_000)]
    assert (later.subscription.seats, later.subscription.revision) == (3, 3)


def test_a_smaller_tier_begins_with_its_own_price() -> None:
    going = scheduled(buy("enterprise", 5), PRO, 1, JAN31 + DAY).subscription
    step = brought_up_to(going, JAN31 + 28 * DAY, PRICES, RULES)
    assert kinds(step) == [("period_fee", 9_000_000)]
    assert (step.subscription.tier_name, step.subscription.seats) == ("pro", 1)


def test_a_cancelled_one_ends_with_its_period_unless_it_is_resumed() -> None:
    going = cancelled(buy(), JAN31 + DAY).subscription
    assert (going.shown_state, going.tier_name) == (State.CANCELLED, "pro")
    with pytest.raises(NothingToCancel):
        cancelled(going, JAN31 + DAY)
    gone = brought_up_to(going, JAN31 + 28 * DAY, PRICES, RULES)
    assert (gone.subscription.state, gone.subscription.tier_name) == (State.ENDED, "free")
    assert (gone.charges, gone.subscription.next_step_at) == ((), None)
    stays = resumed(going, JAN31 + 2 * DAY).subscription
    assert stays.shown_state is State.ACTIVE
    for nothing in (stays, FREE, gone.subscription):
        with pytest.raises(NothingToResume):
            resumed(nothing, JAN31)


def test_more_than_was_granted_is_bought_however_little_it_costs() -> None:
    def costing(microusd: int) -> UnitPrice:
        return UnitPrice(microusd, "the operator's")

    given = granted(FREE, "pro", None, JAN31).subscription
    assert course_of(given, TEAM, 1, costing(8_000_000)) is Course.BUY
    assert course_of(given, TEAM, 1, costing(1)) is Course.BUY
    assert course_of(given, TEAM, 1, costing(0)) is Course.BUY
    assert course_of(given, PRO, 1, costing(0)) is Course.NOTHING
    team = granted(FREE, "enterprise", 3, JAN31).subscription
    assert course_of(team, TEAM, 4, costing(1_000_000)) is Course.BUY
    assert course_of(team, TEAM, 4, costing(1)) is Course.BUY
    assert course_of(team, TEAM, 2, costing(1_000_000)) is Course.FREELY
    # Fewer seats, but dearer ones than all that were granted; as dear as these is not more.
    assert course_of(team, TEAM, 2, costing(30_000_000)) is Course.BUY
    assert course_of(team, TEAM, 1, costing(45_000_000)) is Course.FREELY
    assert course_of(team, PRO, 1, PRICES.at("pro", JAN31)) is Course.FREELY
    assert course_of(team, PRO, 1, costing(0)) is Course.FREELY


def test_what_costs_nothing_by_now_has_a_period_and_costs_the_next_one_what_it_costs_then() -> None:
    def price(tier_name: str, since: datetime, microusd: int) -> PlanPrice:
        return PlanPrice.set(tier_name, microusd, effective_from=since, by=ADA, at=since)

    prices = PlanPrices.of([price("pro", JAN31, 0), price("pro", JAN31 + 40 * DAY, 5_000_000)])
    nothing = prices.at("pro", JAN31)
    trying = tried(FREE, PRO, 1, RULES, JAN31).subscription
    for present in (FREE, trying):
        assert course_of(present, PRO, 1, nothing) is Course.BUY
    step = bought(FREE, PRO, 1, nothing, JAN31)
    held = step.subscription
    assert (step.charges, held.price_microusd_per_month) == ((), 0)
    assert (held.period_ends, held.next_step_at) == (JAN31 + 28 * DAY, JAN31 + 28 * DAY)
    # What costs something is bought, from then on: there is nothing to give back.
    assert course_of(held, TEAM, 1, prices.at("enterprise", JAN31)) is Course.BUY
    assert course_of(held, TEAM, 1, UnitPrice(0, "the operator's")) is Course.UPGRADE
    still = brought_up_to(held, JAN31 + 28 * DAY, prices, RULES)
    assert (still.charges, still.subscription.owed_microusd) == ((), 0)
    then = brought_up_to(held, JAN31 + 59 * DAY, prices, RULES)
    assert kinds(then) == [("period_fee", 5_000_000)]
    assert then.subscription.owed_microusd == 5_000_000


def test_a_trial_is_had_once_costs_nothing_and_ends_by_itself() -> None:
    trying = tried(FREE, PRO, 1, RULES, JAN31).subscription
    assert (trying.state, trying.tier_name) == (State.TRIALING, "pro")
    assert course_of(trying, PRO, 1, PRICES.at("pro", JAN31)) is Course.BUY
    assert course_of(trying, PRO, 1, UnitPrice(1, "the operator's")) is Course.BUY
    over = brought_up_to(trying, JAN31 + 14 * DAY, PRICES, RULES).subscription
    assert (over.state, over.tier_name) == (State.ENDED, "free")
    for again in (over, trying, buy()):
        with pytest.raises(TrialUsed):
            tried(again, PRO, 1, RULES, JAN31 + 20 * DAY)
    with pytest.raises(TrialNotOffered):
        tried(FREE, PRO, 1, replace(RULES, trial=None), JAN31)
    with pytest.raises(TrialNotOffered):
        tried(FREE, TIERS["free"], 1, RULES, JAN31)
    with pytest.raises(TrialUsed):
        tried(FREE, PRO, 1, RULES, JAN31, had_one=True)


def test_a_trial_has_as_many_seats_as_the_operator_allows() -> None:
    trying = tried(FREE, TEAM, 10, RULES, JAN31).subscription
    assert (trying.tier_name, trying.seats) == ("enterprise", 10)
    with pytest.raises(TooManyTrialSeats):
        tried(FREE, TEAM, 11, RULES, JAN31)


def test_what_was_granted_ends_at_once_with_its_seats() -> None:
    team = granted(FREE, "enterprise", 3, JAN31).subscription
    gone = cancelled(team, JAN31 + DAY).subscription
    assert (gone.state, gone.tier_name, gone.seats) == (State.ENDED, "free", 1)


def test_an_end_that_a_payment_provider_tells_comes_with_the_period() -> None:
    fewer = scheduled(buy("enterprise", 5), TEAM, 3, JAN31 + DAY).subscription
    going = ending(fewer, JAN31 + 2 * DAY).subscription
    assert (going.shown_state, going.tier_name) == (State.CANCELLED, "enterprise")
    gone = brought_up_to(going, JAN31 + 28 * DAY, PRICES, RULES)
    assert (gone.subscription.state, gone.charges) == (State.ENDED, ())
    # It may tell otherwise: then what was planned is planned again.
    back = resumed(going, JAN31 + 3 * DAY).subscription
    assert (back.shown_state, back.next_seats) == (State.ACTIVE, 3)


def test_who_does_not_pay_is_dunned_and_falls_back_after_the_grace() -> None:
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy(), renewal, PRICES, RULES).subscription
    assert (owing.state, owing.owed_microusd) == (State.ACTIVE, 9_000_000)
    with pytest.raises(PaymentOutstanding):
        course_of(owing, TEAM, 1, PRICES.at("enterprise", renewal))
    seen = []
    for day in range(1, 11):
        step = brought_up_to(owing, renewal + day * DAY, PRICES, RULES)
        owing = step.subscription
        seen.append((day, step.retry, owing.state.value, owing.tier_name))
    assert [day for day, retry, _, _ in seen if retry] == [1, 3, 5, 7]
    assert {(state, tier) for day, _, state, tier in seen if day < 10} == {("past_due", "pro")}
    assert seen[-1][2:] == ("ended", "free")
    assert kinds(step) == [("write_off", -9_000_000)]


def test_after_a_standstill_what_is_owed_is_asked_for_and_what_has_ended_is_not() -> None:
    patient = Rules(retries_after=(DAY, 27 * DAY), grace=40 * DAY)
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy(), renewal, PRICES, patient).subscription
    next_renewal = datetime(2026, 3, 31, 10, tzinfo=UTC)
    late = brought_up_to(owing, next_renewal, PRICES, patient)
    assert (late.retry, late.subscription.owed_microusd) == (True, 18_000_000)
    assert late.holds_until == renewal + patient.grace
    over = brought_up_to(ending(owing, renewal).subscription, next_renewal, PRICES, patient)
    assert (over.retry, over.subscription.state, over.holds_until) == (False, State.ENDED, None)
    assert kinds(over) == [("write_off", -9_000_000)]


def test_a_retry_that_is_beyond_the_grace_holds_nothing_up() -> None:
    rules = Rules(retries_after=(DAY, 12 * DAY), grace=10 * DAY)
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy(), renewal, PRICES, rules).subscription
    asked = brought_up_to(owing, renewal + DAY, PRICES, rules).subscription
    assert asked.next_step_at == renewal + 10 * DAY
    assert brought_up_to(asked, renewal + 10 * DAY, PRICES, rules).subscription.tier_name == "free"


def test_whoever_was_asked_more_often_than_is_asked_by_now_keeps_the_grace() -> None:
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy(), renewal, PRICES, RULES).subscription
    thrice = brought_up_to(owing, renewal + 5 * DAY, PRICES, RULES).subscription
    fewer = replace(RULES, retries_after=(DAY,))
    again = brought_up_to(thrice, renewal + 7 * DAY, PRICES, fewer).subscription
    assert (again.tier_name, again.next_step_at) == ("pro", renewal + 10 * DAY)


def test_a_change_that_leaves_nothing_owed_settles_what_was() -> None:
    renewal = JAN31 + 28 * DAY
    owing = brought_up_to(buy(), renewal, PRICES, RULES).subscription
    late = payment_failed(owing, renewal).subscription
    assert (late.state, late.owed_microusd) == (State.PAST_DUE, 9_000_000)
    step = upgraded(late, TEAM, 1, UnitPrice(0, "free-of-charge"), renewal)
    assert kinds(step) == [("proration_credit", -9_000_000)]
    settled = step.subscription
    assert (settled.state, settled.owed_microusd, settled.unpaid_since) == (State.ACTIVE, 0, None)
    assert (settled.dunning_step, settled.next_step_at) == (0, settled.period_ends)


def test_late_and_paid_payments_decide_nothing_about_terms_or_plans() -> None:
    team = buy("enterprise", 5)
    planned = scheduled(team, TEAM, 3, JAN31 + DAY).subscription
    assert (planned.terms_revision, planned.plan_revision) == (1, 2)
    renewal = JAN31 + 28 * DAY
    renewed = brought_up_to(planned, renewal, PRICES, RULES).subscription
    # What the clock brings was decided when it was planned.
    assert (renewed.seats, renewed.revision) == (3, 3)
    assert (renewed.terms_revision, renewed.plan_revision) == (2, 2)
    settled = paid(payment_failed(renewed, renewal).subscription, renewal).subscription
    assert (settled.revision, settled.terms_revision, settled.plan_revision) == (5, 2, 2)
    gone = ended(settled, renewal).subscription
    assert gone.terms_revision == gone.revision == 6


def test_more_while_a_renewal_is_owed_is_owed_with_it_and_moves_no_deadline() -> None:
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy("enterprise", 2), renewal, PRICES, RULES).subscription
    step = upgraded(owing, TEAM, 3, PRICES.at("enterprise", renewal), renewal)
    more = step.subscription
    assert kinds(step) == [("proration_credit", -30_000_000), ("proration_debit", 45_000_000)]
    assert (more.owed_microusd, more.next_step_at) == (45_000_000, owing.next_step_at)
    over = brought_up_to(more, renewal + 10 * DAY, PRICES, RULES)
    assert kinds(over) == [("write_off", -45_000_000)]


def test_a_failure_told_by_the_provider_counts_at_once_and_a_payment_ends_it() -> None:
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy(), renewal, PRICES, RULES).subscription
    overdue = payment_failed(owing, renewal).subscription
    assert (overdue.state, overdue.next_step_at) == (State.PAST_DUE, renewal + DAY)
    assert payment_failed(overdue, renewal).subscription == overdue
    assert payment_failed(buy(), renewal).subscription == buy()
    fine = paid(overdue, renewal + DAY).subscription
    assert (fine.state, fine.owed_microusd, fine.unpaid_since) == (State.ACTIVE, 0, None)
    assert fine.next_step_at == fine.period_ends


def test_a_payment_that_comes_before_its_period_is_kept_for_it() -> None:
    ahead = paid(buy(), JAN31 + 27 * DAY).subscription
    renewed = brought_up_to(ahead, JAN31 + 28 * DAY, PRICES, RULES).subscription
    assert (renewed.owed_microusd, renewed.paid_ahead, renewed.state) == (0, 0, State.ACTIVE)


def test_each_payment_ahead_pays_for_one_period() -> None:
    twice = paid(paid(buy(), JAN31 + DAY).subscription, JAN31 + 2 * DAY).subscription
    renewed = brought_up_to(twice, JAN31 + 28 * DAY, PRICES, RULES).subscription
    assert (renewed.owed_microusd, renewed.paid_ahead) == (0, 1)
    again = brought_up_to(renewed, JAN31 + 60 * DAY, PRICES, RULES).subscription
    assert (again.owed_microusd, again.paid_ahead) == (0, 0)
    third = brought_up_to(again, JAN31 + 90 * DAY, PRICES, RULES).subscription
    assert (third.owed_microusd, third.paid_ahead) == (9_000_000, 0)


def test_a_period_that_costs_nothing_begins_no_grace() -> None:
    free_for_now = PlanPrice("pro", JAN31 + DAY, 0, STAFF, JAN31)
    prices = PlanPrices.of([free_for_now])
    step = brought_up_to(buy(), JAN31 + 28 * DAY, prices, RULES)
    renewed = step.subscription
    assert (step.charges, renewed.state, renewed.owed_microusd) == ((), State.ACTIVE, 0)
    assert (renewed.unpaid_since, renewed.next_step_at) == (None, renewed.period_ends)


def test_after_a_standstill_each_period_is_charged_once_and_the_grace_begins_anew() -> None:
    late = JAN31 + 95 * DAY
    step = brought_up_to(buy(), late, PRICES, RULES)
    assert [charge.begins.date().isoformat() for charge in step.charges] == [
        "2026-02-28",
        "2026-03-31",
        "2026-04-30",
    ]
    owing = step.subscription
    assert (owing.owed_microusd, owing.unpaid_since) == (27_000_000, late)
    assert brought_up_to(owing, late, PRICES, RULES).charges == ()
    assert brought_up_to(owing, late + 9 * DAY, PRICES, RULES).subscription.tier_name == "pro"


def test_a_grant_over_a_paid_period_gives_back_its_rest() -> None:
    step = granted(buy(), "enterprise", 4, JAN31 + 14 * DAY)
    assert kinds(step) == [("proration_credit", -4_500_000)]
    assert step.subscription.period_ends is None
    assert granted(step.subscription, "enterprise", 4, JAN31).charges == ()


def test_a_grant_over_what_is_owed_writes_it_off() -> None:
    owing = brought_up_to(buy(), JAN31 + 28 * DAY, PRICES, RULES).subscription
    step = granted(owing, "enterprise", 4, JAN31 + 30 * DAY)
    assert kinds(step) == [("write_off", -9_000_000)]
    assert (step.subscription.owed_microusd, step.subscription.state) == (0, State.ACTIVE)


def test_what_is_not_paid_ends_at_once_when_it_is_cancelled() -> None:
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy(), renewal, PRICES, RULES).subscription
    step = cancelled(payment_failed(owing, renewal).subscription, renewal + DAY)
    assert kinds(step) == [("write_off", -9_000_000)]
    assert step.subscription.tier_name == "free"


def test_the_present_terms_again_take_back_what_was_planned() -> None:
    unit = PRICES.at("enterprise", JAN31)
    team = buy("enterprise", 5)
    fewer = scheduled(team, TEAM, 3, JAN31 + DAY).subscription
    going = cancelled(team, JAN31 + DAY).subscription
    assert course_of(team, TEAM, 5, unit) is Course.NOTHING
    for planned in (fewer, going):
        assert course_of(planned, TEAM, 5, unit) is Course.LATER
        back = scheduled(planned, TEAM, 5, JAN31 + 2 * DAY).subscription
        assert (back.shown_state, back.next_tier_name) == (State.ACTIVE, None)


def test_the_free_tier_comes_after_a_trial_but_at_once_after_a_grant() -> None:
    free, unit = TIERS["free"], PRICES.at("free", JAN31)
    trying = tried(FREE, PRO, 1, RULES, JAN31).subscription
    assert course_of(trying, free, 1, unit) is Course.LATER
    given = granted(FREE, "pro", None, JAN31).subscription
    assert course_of(given, free, 1, unit) is Course.FREELY
    with pytest.raises(NothingToCancel):
        cancelled(FREE, JAN31)


def test_a_grant_of_what_is_paid_for_gives_back_its_rest_too() -> None:
    step = granted(buy(), "pro", None, JAN31 + 14 * DAY)
    assert kinds(step) == [("proration_credit", -4_500_000)]
    assert (step.subscription.tier_name, step.subscription.period_ends) == ("pro", None)


def test_what_was_lost_is_not_remembered_against_who_comes_back() -> None:
    renewal = datetime(2026, 2, 28, 10, tzinfo=UTC)
    owing = brought_up_to(buy(), renewal, PRICES, RULES).subscription
    overdue = brought_up_to(owing, renewal + 5 * DAY, PRICES, RULES).subscription
    assert overdue.dunning_step > 0
    gone = ended(overdue, renewal + 6 * DAY).subscription
    assert (gone.dunning_step, gone.owed_microusd, gone.unpaid_since) == (0, 0, None)


# A model of the same, second by second


SECOND = timedelta(seconds=1)

actions = st.one_of(
    st.tuples(
        st.just("choose"),
        st.sampled_from(["free", "pro", "enterprise"]),
        st.integers(1, 9),
    ),
    st.tuples(st.sampled_from(["cancel", "resume", "pay", "fail", "grant", "trial", "wait"])),
)
jumps = st.one_of(
    st.integers(0, 3_600),
    st.integers(0, 40 * 86_400),
    st.sampled_from([0, 86_400, 10 * 86_400, 28 * 86_400, 100 * 86_400]),
)


@dataclass
class Books:
    """A subscription as it goes and its charges; beside them what a clockwork would charge that
    looks every second at the price of what is held and knows nothing of fees and prorations."""

    now: datetime
    present: Subscription = FREE
    charges: list[Charge] = field(default_factory=list)
    ticked: Fraction = Fraction(0)
    unpaid: Fraction = Fraction(0)

    def take(self, step: Step) -> None:
        keys = {charge.effect_key for charge in self.charges}
        new = [charge.effect_key for charge in step.charges]
        assert not keys & set(new), "charged twice"
        assert len(new) == len(set(new))
        self.charges += step.charges
        is_given_up = any(charge.kind is ChargeKind.WRITE_OFF for charge in step.charges)
        self.present = step.subscription
        if not self.present.owed_microusd:
            self.ticked += Fraction(0) if is_given_up else self.unpaid
            self.unpaid = Fraction(0)

    def tick_until(self, moment: datetime) -> None:
        present = self.present
        if present.is_paid and present.period_begins and present.period_ends:
            seconds = (moment - self.now) // SECOND
            whole = (present.period_ends - present.period_begins) // SECOND
            cost = Fraction(present.price_microusd_per_month * seconds, whole)
            if present.owed_microusd:
                self.unpaid += cost
            else:
                self.ticked += cost
        self.now = moment

    def go_on_until(self, moment: datetime) -> None:
        """The clock comes by whenever something is due."""
        while (due := self.present.next_step_at) is not None and due <= moment:
            self.tick_until(due)
            _the_clock_comes_by(self, due)
        self.tick_until(moment)


@settings(max_examples=300, deadline=None)
@given(
    begins=st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC)),
    course=st.lists(st.tuples(jumps, actions), max_size=25),
)
def test_charges_are_the_integral_of_the_price_over_what_is_held_and_paid(
    begins: datetime, course: list[tuple[int, tuple[object, ...]]]
) -> None:
    books = Books(begins.replace(microsecond=0))
    for jump, action in course:
        books.go_on_until(books.now + timedelta(seconds=jump))
        _act(books, action, books.now)
        _nothing_is_odd(books.present, books.now)
    # What is charged ahead has to be held first.
    if books.present.owed_microusd:
        books.take(paid(books.present, books.now))
    if books.present.period_ends is not None:
        books.tick_until(books.present.period_ends)
    total = sum(charge.amount_microusd for charge in books.charges)
    # Half a micro-dollar for each line that was rounded; a whole period is exact.
    rounded = sum("proration" in charge.kind.value for charge in books.charges)
    assert abs(total - books.ticked) <= Fraction(rounded, 2)


@settings(max_examples=150, deadline=None)
@given(
    begins=st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC)),
    course=st.lists(st.tuples(jumps, actions), max_size=25),
)
def test_whatever_the_clock_misses_it_makes_up_for_once(
    begins: datetime, course: list[tuple[int, tuple[object, ...]]]
) -> None:
    books = Books(begins)
    for jump, action in course:
        books.now += timedelta(seconds=jump)
        _the_clock_comes_by(books, books.now)
        _act(books, action, books.now)
        _nothing_is_odd(books.present, books.now)
    fees = [c for c in books.charges if c.kind is ChargeKind.PERIOD_FEE]
    for fee, following in itertools.pairwise(fees):
        assert fee.ends <= following.begins or fee.revision != following.revision


def _the_clock_comes_by(books: Books, now: datetime) -> None:
    before = books.present
    step = brought_up_to(before, now, PRICES, RULES)
    books.take(step)
    assert brought_up_to(books.present, now, PRICES, RULES).subscription == books.present
    if books.present.state is State.ENDED and before.state is not State.ENDED:
        # Never a day too early: paid time first, then the grace of what was asked for.
        is_over = before.period_ends is not None and before.period_ends <= now
        asked = before.unpaid_since
        grace_is_over = asked is not None and asked + RULES.grace <= now
        assert (is_over and (before.cancels or before.state is State.TRIALING)) or grace_is_over


def _act(books: Books, action: tuple[object, ...], now: datetime) -> None:
    present = books.present
    try:
        if action[0] == "choose":
            step = _choose(present, str(action[1]), action[2], now)
        elif action[0] == "cancel":
            step = cancelled(present, now)
        elif action[0] == "resume":
            step = resumed(present, now)
        elif action[0] == "pay":
            step = paid(present, now) if present.owed_microusd else Step(present)
        elif action[0] == "fail":
            step = payment_failed(present, now)
        elif action[0] == "grant":
            step = granted(present, "pro", None, now)
        elif action[0] == "trial":
            step = tried(present, PRO, 1, RULES, now)
        else:
            return
    except (NothingToCancel, NothingToResume, PaymentOutstanding, TrialUsed):
        return
    books.take(step)


def _choose(present: Subscription, tier_name: str, seats: object, now: datetime) -> Step:
    assert isinstance(seats, int)
    tier = TIERS[tier_name]
    seats = seats if tier.many_seats else 1
    unit = unit_price(present, tier, now, PRICES)
    course = course_of(present, tier, seats, unit)
    if course is Course.NOTHING:
        return Step(present)
    if course is Course.FREELY:
        return granted(present, tier_name, seats, now)
    if course is Course.BUY:
        return bought(present, tier, seats, unit, now)
    if course is Course.UPGRADE:
        return upgraded(present, tier, seats, unit, now)
    return scheduled(present, tier, seats, now)


def _nothing_is_odd(present: Subscription, now: datetime) -> None:
    assert (present.owed_microusd > 0) == (present.unpaid_since is not None)
    assert (present.state is State.PAST_DUE) <= (present.owed_microusd > 0)
    if present.period_ends is not None:
        assert present.period_begins is not None
        assert present.period_begins <= now < present.period_ends
        assert present.next_step_at is not None
        assert now < present.next_step_at <= present.period_ends
    else:
        assert (present.next_step_at, present.owed_microusd) == (None, 0)
    if present.state in (State.NONE, State.ENDED):
        assert present.tier_name == "free"


def test_ending_what_is_paid_charges_nothing_back() -> None:
    assert ended(buy(), JAN31 + DAY).charges == ()
