"""Who is who: addresses, usernames and logins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.domain.errors import InvalidEmail, InvalidUsername
from services.auth.domain.user import EmailAddress, LoginName, Role, Username
from tests.support.auth import NOON, a_user, hash_of


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("  ", None),
        ("ada", None),
        ("ada@", None),
        ("@example.com", None),
        ("ada@localhost", None),
        ("a b@example.com", None),
        ("ada@example.com\0", None),
        ("ada@exa\0mple.com", None),
        ("ada@example..com", None),
        ("\ud800@example.com", None),
        (f"{'a' * 65}@example.com", None),
        (f"ada@{'a' * 250}.com", None),
        ("Ä@Exämple.de", "ä@exämple.de"),
        ("ada@xn--exmple-cua.de", "ada@exämple.de"),
        ("ada@intranet.local", "ada@intranet.local"),
        ("ada+tag@example.test", "ada+tag@example.test"),
    ],
)
def test_an_address_has_one_spelling_or_is_refused(typed: str, kept: str | None) -> None:
    if kept is None:
        with pytest.raises(InvalidEmail):
            EmailAddress.parse(typed)
    else:
        assert EmailAddress.parse(typed).text == kept


@given(st.emails())
def test_parsing_an_address_again_changes_nothing(typed: str) -> None:
    once = EmailAddress.parse(typed)
    assert EmailAddress.parse(once.text) == once


@pytest.mark.parametrize("text", ["a", "Ada Lovelace", "ада", "李", "x" * 80, "a.b-c_d", "é"])
def test_a_username_may_be_any_readable_name(text: str) -> None:
    assert Username.parse(text).text == text


@pytest.mark.parametrize(
    "text",
    ["", " ", " ada", "ada ", "x" * 81, "a@b", "ada＠b", "a\0b", "a\nb", "a\u200bb", "\ud800"],
)
def test_a_username_that_could_be_mistaken_is_refused(text: str) -> None:
    with pytest.raises(InvalidUsername):
        Username.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("admin\ufe0f", "\u3164", "ad\u034fmin", "\u115f", "a\u1160b", "\uffa0", "a\u17b4"),
        *("a\u180b", "a\U000e0100", "\u2800", "\U0001d159"),
    ],
)
def test_nobody_takes_a_name_that_looks_like_another_or_like_none(text: str) -> None:
    with pytest.raises(InvalidUsername):
        Username.chosen(text)
    assert LoginName.parse(text).username == Username(text), "who has one goes on signing in"


@pytest.mark.parametrize("text", ["Ada Lovelace", "ада", "한글", "नमस्ते", "e\u0301x", "李"])
def test_a_name_in_any_script_can_be_taken(text: str) -> None:
    assert Username.chosen(text) == Username.parse(text)


def test_usernames_that_look_alike_share_a_key() -> None:
    keys = {Username.parse(text).key for text in ("Straße", "STRASSE", "ＳＴＲＡＳＳＥ")}
    assert keys == {"strasse"}


@given(st.text(max_size=100))
def test_no_text_breaks_a_login(text: str) -> None:
    name = LoginName.parse(text)
    assert not (name.email and name.username)


def test_spellings_of_one_login_count_as_one() -> None:
    spellings = (" Ada@Example.com", "ada@EXAMPLE.com ", "ADA@example.COM")
    assert {LoginName.parse(text).spelling for text in spellings} == {"ada@example.com"}


def test_a_rehash_is_no_change_of_password() -> None:
    user = a_user()
    assert user.rehashed(hash_of("x", made=2)).has_password_of(user)


def test_staff_is_vouched_for_by_the_console() -> None:
    operator = a_user().as_staff(Role.OPERATOR)
    assert (operator.role, operator.email_verified) == (Role.OPERATOR, True)


def test_a_new_account_starts_small() -> None:
    user = a_user()
    assert (user.tier, user.role, user.is_active, user.email_verified, user.created_at) == (
        "free",
        Role.MEMBER,
        True,
        False,
        NOON,
    )
