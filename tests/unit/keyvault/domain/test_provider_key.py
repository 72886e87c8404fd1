"""The life of a key, and when it is checked again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.keyvault.domain.fingerprint import Fingerprint
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import (
    ANSWER_WITHIN,
    USABLE,
    KeyId,
    ProviderKey,
    Status,
    hint_of,
    new_key,
    retry_after,
)
from services.keyvault.domain.secret import SealedSecret
from shared.vendors import Check, KeyStatus
from shared.vendors.base import INVALID, LIMITED, UNREACHABLE
from tests.support.keyvault import NOON, VALID, ada

SECRET = SealedSecret(uuid4(), b"sealed", Fingerprint(1, b"0" * 16))
LATER = NOON + timedelta(minutes=1)


def a_key(status: Status = Status.PENDING, **parts: object) -> ProviderKey:
    fresh = new_key(Owner.user(ada), "openai", tier="free", at=NOON)
    held = fresh.holding(SECRET, hint="…1234", tier="free", at=NOON)
    return replace(held, status=status, **parts)  # type: ignore[arg-type]


def test_a_stored_key_is_pending_in_its_first_version() -> None:
    key = a_key()
    assert (key.version, key.status, key.is_live) == (1, Status.PENDING, True)


def test_a_version_waits_for_one_word_and_not_for_ever() -> None:
    key = a_key()
    assert key.is_being_checked(LATER)
    assert not key.is_being_checked(NOON + ANSWER_WITHIN)
    for check in (VALID, LIMITED, INVALID, UNREACHABLE):
        assert not key.judged(check, LATER).is_being_checked(LATER)
    assert not key.revoked(LATER).is_being_checked(LATER)
    again = key.stored_again(tier="free", at=LATER)
    assert again.next_check_at == NOON + ANSWER_WITHIN, "asked once, and by then once more"
    other = key.holding(SECRET, hint="…9999", tier="free", at=LATER)
    assert other.check_requested_at == LATER


def test_a_key_is_of_the_tier_that_its_owner_has_by_now() -> None:
    key = a_key()
    assert key.is_being_checked(LATER)
    assert key.stored_again(tier="pro", at=LATER).tier == "pro"
    assert key.stored_again(tier="pro", at=NOON + ANSWER_WITHIN).tier == "pro"
    assert key.check_requested(tier="pro", at=LATER).tier == "pro"


@pytest.mark.parametrize("check", [VALID, INVALID])
def test_what_a_release_before_has_judged_is_asked_about_again(check: Check) -> None:
    """It leaves `check_requested_at` as it is; without a next check the key would stay pending."""
    key = a_key()
    judged = replace(key.judged(check, LATER), check_requested_at=key.check_requested_at)
    again = judged.stored_again(tier="free", at=LATER)
    assert (again.status, again.next_check_at) == (Status.PENDING, NOON + ANSWER_WITHIN)


def test_another_secret_is_another_version_of_which_nothing_is_known() -> None:
    checked = a_key().judged(VALID, NOON)

    replaced = checked.holding(SECRET, hint="…9999", tier="pro", at=LATER)

    assert replaced.version == 2
    assert replaced.status is Status.PENDING
    assert replaced.models == replaced.capabilities == ()
    assert replaced.last_validated_at is None
    assert replaced.created_at == NOON


def test_the_vendors_word_becomes_the_status() -> None:
    for check, status in (
        (VALID, Status.VALID),
        (LIMITED, Status.LIMITED),
        (INVALID, Status.INVALID),
    ):
        told = a_key().judged(check, LATER)
        assert (told.status, told.last_validated_at) == (status, LATER)
        assert told.last_error == check.error


def test_what_a_valid_key_may_do_is_remembered() -> None:
    told = a_key().judged(VALID, LATER)
    assert told.models == ("gpt-6-luna",)
    assert told.capabilities == ("function_calling",)


def test_a_key_that_may_not_list_models_keeps_what_it_listed_before() -> None:
    told = a_key().judged(VALID, NOON).judged(LIMITED, LATER)
    assert told.status is Status.LIMITED
    assert told.models == ("gpt-6-luna",)


def test_an_invalid_key_has_no_models() -> None:
    assert a_key().judged(VALID, NOON).judged(INVALID, LATER).models == ()


@pytest.mark.parametrize("status", [Status.VALID, Status.LIMITED, Status.INVALID])
def test_a_vendors_silence_takes_nothing_back(status: Status) -> None:
    key = a_key(status, last_validated_at=NOON)

    silent = key.judged(UNREACHABLE, LATER)

    assert silent.status is status
    assert silent.last_validated_at == NOON
    assert silent.last_error == UNREACHABLE.error


@pytest.mark.parametrize("status", [Status.PENDING, Status.UNREACHABLE])
def test_a_key_never_judged_is_unreachable_while_the_vendor_is_silent(status: Status) -> None:
    assert a_key(status).judged(UNREACHABLE, LATER).status is Status.UNREACHABLE


def test_retries_slow_down_to_one_an_hour() -> None:
    key, waits = a_key(), []
    for _ in range(10):
        key = key.judged(UNREACHABLE, LATER)
        assert key.next_check_at is not None
        waits.append(int((key.next_check_at - LATER).total_seconds()))
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


@pytest.mark.parametrize(("asked", "waits"), [(5, 30), (7200, 7200)])
def test_a_vendor_that_asks_for_more_time_gets_it(asked: int, waits: int) -> None:
    check = replace(UNREACHABLE, retry_after=timedelta(seconds=asked))
    assert a_key().judged(check, LATER).next_check_at == LATER + timedelta(seconds=waits)


def test_what_a_vendor_told_in_numbers_stands_until_it_tells_otherwise() -> None:
    key = a_key().judged(replace(VALID, details={"voices": 3}), NOON)
    assert key.judged(UNREACHABLE, LATER).details == {"voices": 3}
    assert key.judged(VALID, LATER).details == {}
    assert key.revoked(LATER).details == {}


def test_the_first_good_answer_forgets_the_failures() -> None:
    key = a_key().judged(UNREACHABLE, NOON).judged(UNREACHABLE, NOON).judged(VALID, LATER)
    assert key.failed_checks == 0


def test_an_invalid_key_is_not_asked_about_again_by_itself() -> None:
    assert a_key().judged(INVALID, LATER).next_check_at is None


@given(some.uuids(), some.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_a_good_key_is_asked_about_once_a_day_at_a_time_of_its_own(
    id_: object, when: datetime
) -> None:
    at = when.replace(tzinfo=UTC)
    key = replace(a_key(), id=KeyId(id_))  # type: ignore[arg-type]

    first = key.judged(VALID, at).next_check_at
    assert first is not None
    second = key.judged(VALID, first).next_check_at

    assert second is not None
    assert timedelta(hours=12) <= first - at <= timedelta(hours=36)
    assert second - first == timedelta(days=1)


def test_daily_checks_are_spread_over_the_day() -> None:
    hours = {
        replace(a_key(), id=KeyId(uuid4())).judged(VALID, NOON).next_check_at.hour  # type: ignore[union-attr]
        for _ in range(500)
    }
    assert len(hours) == 24


def test_a_withdrawn_key_holds_nothing_but_its_version() -> None:
    key = a_key().judged(VALID, NOON).judged(UNREACHABLE, NOON).revoked(LATER)

    assert not key.is_live
    assert key.secret is None
    assert (key.last_error, key.failed_checks) == (None, 0)
    assert (key.hint, key.models, key.capabilities) == ("", (), ())
    assert key.next_check_at is None
    assert key.version == 1


def test_a_key_stored_after_a_withdrawal_counts_on() -> None:
    again = a_key().revoked(NOON).holding(SECRET, hint="…1", tier="free", at=LATER)
    assert (again.version, again.status) == (2, Status.PENDING)


def test_a_key_nobody_called_bad_may_be_tried() -> None:
    assert {status for status in Status if status not in USABLE} == {
        Status.INVALID,
        Status.REVOKED,
    }


def test_every_answer_of_a_vendor_has_a_status() -> None:
    for status in KeyStatus:
        assert a_key().judged(Check(status), LATER).status.value == status.value


def test_a_hint_shows_four_characters() -> None:
    assert hint_of("sk-abcdefghijkl") == "…ijkl"


def test_waits_never_overflow() -> None:
    assert retry_after(10_000) == timedelta(hours=1)
