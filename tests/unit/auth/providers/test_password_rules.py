"""Which new passwords are refused, and by what."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.auth.domain.errors import PasswordRefused, PasswordsBusy
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from services.auth.domain.user import EmailAddress, Username
from services.auth.providers.breached_passwords import BreachedPasswords, UnusableBreachedList
from services.auth.providers.password_rules import JudgedPasswords

GOOD = "a lamp lights nine rooms"
EMAIL, NAME = EmailAddress.parse("ada@example.com"), Username.parse("adamantine")
HERE = Origin("a browser", "192.0.2.7")


def digest(password: str) -> str:
    return hashlib.sha1(password.encode()).hexdigest().upper()


def a_list(path: Path, passwords: Sequence[str], *, line: str = "{}:3\r\n") -> Path:
    """As the downloader writes it."""
    file = path / "breached.txt"
    file.write_text("".join(line.format(d) for d in sorted(map(digest, passwords))), newline="")
    return file


@pytest.fixture
def rules() -> Iterator[JudgedPasswords]:
    judged = JudgedPasswords(None)
    yield judged
    judged.close()


async def reason(rules: JudgedPasswords, text: str) -> str:
    with pytest.raises(PasswordRefused) as refusal:
        await rules.check(Password(text), email=EMAIL, username=NAME, origin=HERE)
    assert text not in refusal.value.message
    return str(refusal.value.facts["reason"])


async def test_each_rule_has_its_word(rules: JudgedPasswords, tmp_path: Path) -> None:
    assert await reason(rules, "short") == "too_short"
    assert await reason(rules, "hello adamantine") == "contains_username"
    assert await reason(rules, "aaaaaaaaaaaaaaaa") == "guessable"
    await rules.check(Password(GOOD), email=EMAIL, username=NAME, origin=HERE)
    listed = JudgedPasswords(a_list(tmp_path, [GOOD]))
    assert await reason(listed, GOOD) == "breached"
    await listed.check(Password(GOOD + "!"), email=EMAIL, username=NAME, origin=HERE)
    listed.close()


async def test_while_one_is_judged_the_loop_goes_on_and_a_flood_is_turned_away(
    rules: JudgedPasswords,
) -> None:
    async def one(number: int) -> None:
        where = Origin("a browser", f"203.0.113.{number}")
        await rules.check(Password(f"{GOOD} {number}"), email=EMAIL, username=NAME, origin=where)

    results = await asyncio.gather(*map(one, range(100)), return_exceptions=True)
    assert sum(result is None for result in results) == 65
    assert sum(isinstance(result, PasswordsBusy) for result in results) == 35
    await rules.check(Password(GOOD), email=EMAIL, username=NAME, origin=HERE)


@pytest.mark.parametrize("line", ["{}:3\r\n", "{}:12345\n", "{}\n"])
@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_every_listed_password_is_found_and_no_other(tmp_path: Path, line: str, count: int) -> None:
    passwords = [f"password number {n}" for n in range(count)]
    breached = BreachedPasswords(a_list(tmp_path, passwords, line=line))
    assert [p for p in passwords if p not in breached] == []
    assert [p for p in (f"other {n}" for n in range(200)) if p in breached] == []
    breached.close()


def test_the_last_line_needs_no_end_and_case_does_not_matter(tmp_path: Path) -> None:
    file = a_list(tmp_path, ["one", "two", "three"])
    file.write_text(file.read_text().rstrip().lower())
    breached = BreachedPasswords(file)
    assert all(password in breached for password in ("one", "two", "three"))
    breached.close()


@pytest.mark.parametrize("content", ["", "nonsense\n" * 9, "B" * 40 + "\n" + "A" * 40 + "\n"])
def test_a_list_that_can_not_be_used_is_refused_at_once(tmp_path: Path, content: str) -> None:
    file = tmp_path / "breached.txt"
    file.write_text(content)
    with pytest.raises(UnusableBreachedList, match="AUTH_BREACHED_PASSWORDS_FILE"):
        JudgedPasswords(file)


def test_a_missing_list_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnusableBreachedList, match="AUTH_BREACHED_PASSWORDS_FILE"):
        JudgedPasswords(tmp_path / "missing")
