"""How many wrong passwords are borne."""

from datetime import timedelta

import pytest

from services.auth.domain.attempts import Failures, failures_at_login, failures_of
from services.auth.domain.errors import TooManyAttempts
from services.auth.domain.user import LoginName
from tests.support.auth import LIMIT, NOON, a_user

LATER = NOON + timedelta(minutes=4)


def test_the_fifth_failure_is_the_last_that_is_borne() -> None:
    LIMIT.check_before(None, NOON)
    LIMIT.check_before(Failures(4, LATER), NOON)
    LIMIT.check_after(Failures(5, LATER), NOON)
    with pytest.raises(TooManyAttempts) as refusal:
        LIMIT.check_before(Failures(5, LATER), NOON)
    assert refusal.value.retry_after == timedelta(minutes=4)
    with pytest.raises(TooManyAttempts):
        LIMIT.check_after(Failures(6, LATER), NOON)


def test_the_end_of_the_window_is_the_end_of_the_limit() -> None:
    LIMIT.check_before(Failures(50, LATER), LATER)


def test_both_names_of_an_account_count_together_and_nobodys_apart() -> None:
    user = a_user("ada")
    by_email, by_name = LoginName.parse("ada@example.com"), LoginName.parse("ADA")
    assert failures_at_login(by_email, user) == failures_at_login(by_name, user)
    assert failures_at_login(by_email, user) == failures_of(user.id)
    assert failures_at_login(by_email, None) != failures_at_login(by_name, None)
