"""Codes of an authenticator, and recovery codes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pyotp
import pytest

from services.auth.domain.second_factor import (
    RecoveryCode,
    Totp,
    is_totp_code,
    new_recovery_codes,
)
from tests.support.auth import NOON, a_user
from tests.support.auth_second_factors import code_at, scanned, wrong_code

STEP = timedelta(seconds=30)
ADA = a_user("ada").id
NOT_SIX_DIGITS = [
    *("", " ", "12345", "1234567", " 123456", "123456 ", "123456\n", "123 456", "123-456"),
    *("+12345", "-12345", "１２３４５６", "12345６", "१२३४५६", "𝟏𝟐𝟑𝟒𝟓𝟔", "12345²", "①②③④⑤⑥"),
    *("0x1234", "1e1000", "12345\0", "\ufeff123456", "123456\u200b", "123.56"),
]


def a_totp() -> Totp:
    return Totp.begun(ADA, NOON)


def test_a_secret_has_160_random_bits_and_is_never_shown() -> None:
    totps = [a_totp() for _ in range(20)]
    assert len({totp.secret for totp in totps}) == 20
    assert all(re.fullmatch("[A-Z2-7]{32}", totp.secret) for totp in totps)
    assert totps[0].secret not in repr(totps[0])


def test_an_authenticator_takes_the_secret_from_its_picture() -> None:
    totp = a_totp()
    uri = totp.uri(account="ada+x&y@example.com", issuer="Some & Company: here")
    found = scanned(uri)
    assert (found.secret, found.digits, found.interval) == (totp.secret, 6, 30)
    assert (found.name, found.issuer) == ("ada+x&y@example.com", "Some & Company: here")


@pytest.mark.parametrize(("age", "good"), [(-1, False), (0, True), (1, True), (2, False)])
def test_the_present_code_and_the_one_before_are_good(age: int, good: bool) -> None:
    totp = a_totp()
    step = totp.step_of(code_at(totp.secret, NOON - age * STEP), NOON)
    assert (step is not None) is good
    if good:
        assert step == int(NOON.timestamp()) // 30 - age


def test_rfc_6238s_own_examples_are_right() -> None:
    """Its table has eight digits, whose last six are ours."""
    totp = replace(a_totp(), secret="GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    for seconds, code in {59: "287082", 1111111109: "081804", 2000000000: "279037"}.items():
        at = NOON + timedelta(seconds=seconds - NOON.timestamp())
        assert totp.step_of(code, at) == seconds // 30


def test_no_step_is_good_twice_nor_one_before_it() -> None:
    totp = a_totp()
    step = totp.step_of(code_at(totp.secret, NOON), NOON)
    assert step is not None
    used = totp.confirmed(step, NOON)
    assert used.step_of(code_at(totp.secret, NOON), NOON) is None
    assert used.step_of(code_at(totp.secret, NOON), NOON + STEP) is None
    assert used.step_of(code_at(totp.secret, NOON - STEP), NOON) is None
    assert used.step_of(code_at(totp.secret, NOON + STEP), NOON + STEP) == step + 1


@pytest.mark.parametrize("text", NOT_SIX_DIGITS)
def test_only_six_ascii_digits_are_a_code(text: str) -> None:
    assert not is_totp_code(text)
    assert a_totp().step_of(text, NOON) is None


def test_a_right_code_in_other_digits_or_with_spaces_is_refused() -> None:
    totp = a_totp()
    code = code_at(totp.secret, NOON)
    wide = code.translate({ord("0") + n: ord("０") + n for n in range(10)})
    # The library alone would take it.
    assert pyotp.TOTP(totp.secret).verify(wide, for_time=NOON)
    for typed in (wide, f" {code}", f"{code} ", f"{code[:3]} {code[3:]}", f"+{code}", f"{code}\n"):
        assert totp.step_of(typed, NOON) is None
    assert totp.step_of(wrong_code(totp.secret, NOON), NOON) is None


def test_what_was_begun_long_ago_is_not_confirmed() -> None:
    totp = a_totp()
    assert totp.can_be_confirmed(NOON + timedelta(minutes=14))
    assert not totp.can_be_confirmed(NOON + timedelta(minutes=15))
    assert not totp.confirmed(1, NOON).can_be_confirmed(NOON)


def test_recovery_codes_are_ten_of_80_bits() -> None:
    codes = new_recovery_codes()
    assert len({code.text for code in codes}) == 10
    for code in codes:
        assert re.fullmatch("([a-z2-7]{4}-){3}[a-z2-7]{4}", code.shown)
        assert code.text not in repr(code)


def test_a_recovery_code_is_read_however_it_was_written_down() -> None:
    [code, *_] = new_recovery_codes()
    for typed in (code.shown, code.shown.upper(), code.text):
        assert RecoveryCode.parse(typed) == code


@pytest.mark.parametrize(
    "typed", ["", "a" * 15, "a" * 17, "1" * 16, "é" * 16, "ａ" * 16, "\u212a" * 16]
)
def test_what_is_no_recovery_code_is_none(typed: str) -> None:
    assert RecoveryCode.parse(typed) is None


def test_a_recovery_code_is_kept_under_another_hash_for_each_user() -> None:
    [code, *_] = new_recovery_codes()
    hashes = {code.hash_for(a_user(name).id) for name in ("ada", "grace")}
    assert len(hashes) == 2
    assert all(code.text.encode() not in hash_ for hash_ in hashes)
