"""Which passwords are refused, and that none shows itself."""

import pytest

from services.auth.domain.errors import PasswordRefused
from services.auth.domain.password import (
    Password,
    PasswordHash,
    check_strength,
    common_passwords,
)


def refusal(text: str, *, email: str = "lovelace", username: str = "Analyst") -> str | None:
    try:
        check_strength(Password(text), email_local_part=email, username=username)
    except PasswordRefused as refused:
        assert text not in refused.message or not text
        return str(refused.facts["reason"])
    return None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "too_short"),
        ("x" * 11, "too_short"),
        ("eleven char", "too_short"),
        ("twelve chars", None),
        ("y" + "x" * 255, None),
        ("x" * 257, "too_long"),
        ("password1234", "common"),
        ("PassWord1234", "common"),
        ("qwertyuiopasdfghjkl", "common"),
        ("my lovelace years", "contains_email"),
        ("an ANALYST at work", "contains_username"),
        ("twelve\ud800chars", "not_text"),
        ("zwölf Zeichen", None),
        ("🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊", None),
        ("nul\0in the middle", None),
        ("            ", None),
    ],
)
def test_length_counts_and_guesses_do_not_pass(text: str, reason: str | None) -> None:
    assert refusal(text) == reason


def test_a_short_name_may_occur_by_chance() -> None:
    assert refusal("an albatross sails", email="al", username="Bat") is None


def test_there_are_hundreds_of_known_passwords_and_all_are_long_enough_to_matter() -> None:
    assert len(common_passwords()) >= 200
    assert min(len(text) for text in common_passwords()) >= 12


@pytest.mark.parametrize("secret", [Password("do not show me"), PasswordHash("do not show me")])
def test_a_password_does_not_show_itself(secret: object) -> None:
    assert "show" not in f"{secret!r} {secret}"
