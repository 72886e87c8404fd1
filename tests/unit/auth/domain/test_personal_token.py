"""The form of a personal token, and the rules for what it may be."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deploy.envoy.gateway import PERSONAL_TOKEN
from services.auth.domain.errors import (
    InvalidTokenLifetime,
    InvalidTokenName,
    PersonalTokenRefused,
    ScopeNotGrantable,
)
from services.auth.domain.personal_token import TOKEN_LENGTH, TokenText, _check_sum
from services.auth.domain.user import Role
from shared.scopes import ACCOUNT, BILLING, BILLING_READ, CHAT, KEYS, USAGE_WRITE, VOICE
from tests.support.auth import NOON, a_user
from tests.support.auth_personal_tokens import a_personal_token

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = re.compile(r"ttc_[0-9A-Za-z]{49}")
A_TOKEN = TokenText.made().text
DAY = timedelta(days=1)


def test_its_form_is_the_one_that_scanners_of_published_code_know() -> None:
    texts = {TokenText.made().text for _ in range(200)}
    assert len(texts) == 200
    for text in texts:
        assert FORM.fullmatch(text)
        assert len(text) == TOKEN_LENGTH == 53
        number = 0
        for digit in text[-6:]:
            number = number * 62 + ALPHABET.index(digit)
        assert number == zlib.crc32(text[:-6].encode())
        assert TokenText.parse(text).hash == TokenText(text).hash
        assert re.fullmatch(PERSONAL_TOKEN, f"Bearer {text}"), "the gateway recognises it"


@given(
    place=st.integers(0, TOKEN_LENGTH - 1),
    character=st.sampled_from(ALPHABET + "_-é０"),
)
def test_one_wrong_character_is_noticed_without_a_look_up(place: int, character: str) -> None:
    assume(A_TOKEN[place] != character)
    with pytest.raises(PersonalTokenRefused):
        TokenText.parse(A_TOKEN[:place] + character + A_TOKEN[place + 1 :])


@pytest.mark.parametrize("body", ["xyz_" + "A" * 43, "ttc_" + "A" * 42, "ttc_" + "A" * 44, "ttc_"])
def test_a_right_sum_alone_makes_no_token(body: str) -> None:
    with pytest.raises(PersonalTokenRefused):
        TokenText.parse(body + _check_sum(body))
    good = "ttc_" + "A" * 43
    assert TokenText.parse(good + _check_sum(good)).text.startswith(good)


@given(place=st.integers(4, TOKEN_LENGTH - 2))
def test_two_swapped_characters_are_noticed(place: int) -> None:
    assume(A_TOKEN[place] != A_TOKEN[place + 1])
    swapped = A_TOKEN[:place] + A_TOKEN[place + 1] + A_TOKEN[place] + A_TOKEN[place + 2 :]
    with pytest.raises(PersonalTokenRefused):
        TokenText.parse(swapped)


@given(
    st.text(max_size=80) | st.text(alphabet=ALPHABET, min_size=49, max_size=49).map("ttc_{}".format)
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(PersonalTokenRefused):
        TokenText.parse(text)


def test_nothing_prints_it() -> None:
    token, text = a_personal_token(a_user(), at=NOON)
    assert text.text not in f"{token!r} {text!r} {token} {text}"
    assert token.hint == text.text[-4:]
    assert token.token_hash == text.hash
    assert len(token.token_hash) == 32


@pytest.mark.parametrize("scopes", [[CHAT], [CHAT, VOICE], [BILLING_READ, CHAT, VOICE]])
def test_a_member_may_grant_use_and_reading(scopes: list[str]) -> None:
    token, _ = a_personal_token(a_user(), at=NOON, scopes=scopes)
    assert token.scopes == set(scopes)


@pytest.mark.parametrize("scope", [ACCOUNT, KEYS, BILLING, USAGE_WRITE, "", "chat voice", "CHAT"])
@pytest.mark.parametrize("beside", [[], [CHAT]])
def test_nobody_may_grant_keys_or_administration(scope: str, beside: list[str]) -> None:
    with pytest.raises(ScopeNotGrantable) as refused:
        a_personal_token(a_user(), at=NOON, scopes=[*beside, scope])
    assert refused.value.facts["grantable"] == [BILLING_READ, CHAT, VOICE]


def test_a_token_without_scopes_is_none() -> None:
    with pytest.raises(ScopeNotGrantable):
        a_personal_token(a_user(), at=NOON, scopes=[])


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.BILLING])
def test_staff_may_let_a_tool_report_usage_and_no_more(role: Role) -> None:
    staff = a_user(role=role)
    token, _ = a_personal_token(staff, at=NOON, scopes=[USAGE_WRITE])
    assert token.scopes_for(staff, NOON) == {USAGE_WRITE}
    for scope in (ACCOUNT, KEYS, BILLING):
        with pytest.raises(ScopeNotGrantable):
            a_personal_token(staff, at=NOON, scopes=[scope])


def test_who_loses_a_role_loses_it_for_their_tokens_too() -> None:
    staff = a_user(role=Role.OPERATOR)
    token, _ = a_personal_token(staff, at=NOON, scopes=[CHAT, USAGE_WRITE])
    member = replace(staff, role=Role.MEMBER)
    assert token.scopes_for(member, NOON) == {CHAT}


@pytest.mark.parametrize("days", [-1, 0, 365.1, 366, 10**6])
def test_no_token_is_for_ever(days: float) -> None:
    with pytest.raises(InvalidTokenLifetime):
        a_personal_token(a_user(), at=NOON, lifetime=days * DAY)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb", "a\0b", "\ud800", "a\u202eb"])
def test_a_name_must_tell_something(name: str) -> None:
    with pytest.raises(InvalidTokenName):
        a_personal_token(a_user(), at=NOON, name=name)


def test_a_year_is_the_longest() -> None:
    token, _ = a_personal_token(a_user(), at=NOON, lifetime=365 * DAY)
    assert token.expires_at == NOON + 365 * DAY


def test_a_names_outer_spaces_are_no_part_of_it() -> None:
    assert a_personal_token(a_user(), at=NOON, name="  an editor ")[0].name == "an editor"


def test_it_ends_when_it_expires_is_revoked_or_its_owner_is_locked_out() -> None:
    ada = a_user()
    token, _ = a_personal_token(ada, at=NOON, lifetime=DAY)
    almost = NOON + DAY - timedelta(microseconds=1)
    assert token.scopes_for(ada, almost) == {CHAT}
    assert token.scopes_for(ada, NOON + DAY) == set()
    assert replace(token, revoked_at=NOON).scopes_for(ada, NOON) == set()
    assert token.scopes_for(replace(ada, is_active=False), NOON) == set()


def test_what_stands_for_it_does_not_outlive_it() -> None:
    token, _ = a_personal_token(a_user(), at=NOON, lifetime=DAY)
    assert token.exchanged_lifetime(NOON) == timedelta(minutes=5)
    late = token.expires_at - timedelta(seconds=20)
    assert token.exchanged_lifetime(late) == timedelta(seconds=20)


def test_a_use_is_noted_once_a_minute() -> None:
    token, _ = a_personal_token(a_user(), at=NOON)
    assert token.use_is_worth_noting(NOON)
    used = replace(token, last_used_at=NOON)
    assert not used.use_is_worth_noting(NOON + timedelta(seconds=59))
    assert used.use_is_worth_noting(NOON + timedelta(seconds=60))
