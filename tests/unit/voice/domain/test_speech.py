"""What a speech is charged, and what billing is told."""

from __future__ import annotations

from services.voice.domain.speech import (
    Outcome,
    Settlement,
    Used,
    settlement_of_lost,
    usage_fact,
    used_by,
)
from tests.support.voice import a_hold, a_script


def test_the_vendors_count_goes_before_ours() -> None:
    script = a_script("Hello.")
    assert used_by(script, 3) == Used(3, "provider")
    assert used_by(script, 0) == Used(0, "provider")
    assert used_by(script, None) == Used(len("Hello."), "counted")


def test_what_nobody_else_counted_costs_as_its_model_does() -> None:
    quick = a_script("Seven…!", model="eleven_flash_v2_5")
    assert used_by(quick, None) == Used(4, "counted")
    lost = settlement_of_lost(a_hold(model="eleven_turbo_v2_5", characters=41))
    assert lost.used == Used(21, "counted")


def test_usage_has_the_identity_that_the_hold_gave_it() -> None:
    hold = a_hold(tier="enterprise", sandbox=True)
    fact = usage_fact(hold, Settlement(Outcome.CLIENT_GONE, Used(12, "provider"), "vendor-1"))
    assert fact is not None
    assert (fact.id, fact.subject, fact.tier) == (hold.usage_event_id, hold.user_id, "enterprise")
    usage = fact.event
    assert (usage.operation, usage.provider, usage.outcome) == (
        "voice",
        "elevenlabs",
        "client_gone",
    )
    assert (usage.characters, usage.source, usage.sandbox) == (12, "provider", True)
    assert usage.provider_request_id == "vendor-1"


def test_what_cost_nothing_is_no_usage() -> None:
    assert usage_fact(a_hold(), Settlement(Outcome.REFUSED, None)) is None
    assert usage_fact(a_hold(), Settlement(Outcome.PROVIDER_FAILED, None)) is None
    # Whatever is said of how much it would have been.
    assert usage_fact(a_hold(), Settlement(Outcome.REFUSED, Used(12, "counted"))) is None


def test_a_lost_replicas_speech_counts_what_the_vendor_had_been_asked_for() -> None:
    for asked, used in ((0, 0), (15, 15), (None, 40)):
        lost = settlement_of_lost(a_hold(characters=40, asked_characters=asked))
        assert lost.used == Used(used, "counted")


def test_a_lost_replicas_speech_counts_its_text() -> None:
    lost = settlement_of_lost(a_hold(characters=40))
    assert (lost.outcome, lost.used) == (Outcome.REPLICA_LOST, Used(40, "counted"))


def test_usage_is_of_when_the_speech_began() -> None:
    hold = a_hold()
    fact = usage_fact(hold, Settlement(Outcome.DONE, Used(12, "provider")))
    assert fact is not None
    assert fact.time == hold.created_at
