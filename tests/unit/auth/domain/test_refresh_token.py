"""Refresh tokens: one spelling, and nothing that could be forged from the database alone."""

from base64 import urlsafe_b64encode
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.domain.errors import RefreshRefused
from services.auth.domain.refresh_token import TOKEN_LENGTH, RefreshToken
from services.auth.domain.sign_in import SignInId
from tests.support.auth import a_sign_in, a_user

PEPPER, OTHER_PEPPER = b"p" * 32, b"q" * 32


def test_a_token_survives_the_journey() -> None:
    sign_in = a_sign_in(a_user(), counter=7)
    token = RefreshToken.current_of(sign_in, PEPPER)
    again = RefreshToken.parse(token.encoded)
    assert again == token
    assert again.is_genuine(sign_in, PEPPER)
    assert len(token.encoded) == TOKEN_LENGTH


def test_the_same_token_is_computed_each_time() -> None:
    sign_in = a_sign_in(a_user())
    tokens = {RefreshToken.current_of(sign_in, PEPPER).encoded for _ in range(3)}
    assert len(tokens) == 1


def test_a_token_that_was_given_out_is_good_in_later_releases_too() -> None:
    sign_in = replace(
        a_sign_in(a_user(), counter=7), id=SignInId(UUID(int=1)), salt=bytes(range(16))
    )
    assert (
        RefreshToken.current_of(sign_in, PEPPER).mac.hex()
        == "d038ba4239df4ac365a2ae8edb4f15e28c6c3acb0f7bf91b9ce60647243a58d9"
    )


def test_each_part_is_bound_by_the_mac() -> None:
    sign_in, other = a_sign_in(a_user()), a_sign_in(a_user())
    token = RefreshToken.current_of(sign_in, PEPPER)
    assert not token.is_genuine(sign_in, OTHER_PEPPER)
    assert not token.is_genuine(replace(sign_in, salt=other.salt), PEPPER)
    assert not token.is_genuine(replace(sign_in, id=other.id), PEPPER)
    assert not replace(token, counter=1).is_genuine(sign_in, PEPPER)


@given(st.integers(0, TOKEN_LENGTH - 1), st.sampled_from("ABCxyz019-_+/= \n\0é"))
def test_a_changed_character_never_passes(position: int, character: str) -> None:
    sign_in = a_sign_in(a_user())
    text = RefreshToken.current_of(sign_in, PEPPER).encoded
    changed = text[:position] + character + text[position + 1 :]
    if changed == text:
        return
    try:
        token = RefreshToken.parse(changed)
    except RefreshRefused:
        return
    assert token.sign_in_id != sign_in.id or not token.is_genuine(sign_in, PEPPER)


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda b: urlsafe_b64encode(b).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    try:
        token = RefreshToken.parse(text)
    except RefreshRefused:
        return
    assert token.encoded == text


def test_the_largest_counter_fits() -> None:
    token = RefreshToken(SignInId(a_sign_in(a_user()).id), 2**64 - 1, b"m" * 32)
    assert RefreshToken.parse(token.encoded) == token


@pytest.mark.parametrize("text", ["", "x", "A" * 76, "ä" * 75, "A" * 74])
def test_a_wrong_length_is_refused(text: str) -> None:
    with pytest.raises(RefreshRefused):
        RefreshToken.parse(text)
