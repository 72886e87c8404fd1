"""An account and its owner's mail, through the gateway, the broker and the worker."""

from __future__ import annotations

from email.message import EmailMessage

import httpx
import pytest

from tests.support.auth_mails import mails_to, text_of, token_in
from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e

NEW = "eleven geese cross a bridge"


async def the_mail(suite: Suite, person: Person, subject: str) -> EmailMessage:
    """The mail with this subject, once it is there."""

    async def look() -> list[EmailMessage]:
        mails = mails_to(suite.installation.data.mail, f"{person.name}@example.com")
        return [mail for mail in mails if mail["Subject"] == subject]

    return (await eventually(look, bool))[-1]


async def test_from_registration_to_a_forgotten_password(suite: Suite, grace: Person) -> None:
    here, elsewhere = grace.client, httpx.AsyncClient(base_url=suite.url, trust_env=False)
    mail = await the_mail(suite, grace, "Confirm your e-mail address")
    assert f"http://127.0.0.1:{suite.installation.settings.port}/" in text_of(mail)
    proof = {"token": token_in(text_of(mail))}
    assert (await elsewhere.post("/auth/verify-email", json=proof)).status_code == 204
    assert (await here.get("/auth/me")).json()["email_verified"] is True

    email = {"email": f"{grace.name}@example.com"}
    answer = await elsewhere.post("/auth/password/forgot", json=email)
    unknown = await elsewhere.post("/auth/password/forgot", json={"email": "nobody@example.com"})
    assert (answer.status_code, answer.json()) == (202, unknown.json())
    mail = await the_mail(suite, grace, "Choose a new password")
    reset = {"token": token_in(text_of(mail)), "new_password": NEW}
    assert (await elsewhere.post("/auth/password/reset", json=reset)).status_code == 204

    # Sensitive routes hear of it at once, the refresh token is dead, the old password too.
    assert (await here.patch("/auth/me", json={"username": "other"})).status_code == 401
    old = await elsewhere.post("/auth/refresh", json={"refresh_token": grace.refresh_token})
    assert old.status_code == 401
    login = {"login": grace.name, "password": grace.password}
    assert (await elsewhere.post("/auth/login", json=login)).status_code == 401
    grace.password = NEW
    await grace.sign_in()
    assert (await here.get("/auth/me")).status_code == 200
    await the_mail(suite, grace, "Your password was changed")
    await elsewhere.aclose()


async def test_mails_are_for_their_operator_alone(suite: Suite) -> None:
    folder = suite.installation.data.mail
    person = a_person(suite)
    await person.register()
    await the_mail(suite, person, "Confirm your e-mail address")
    await person.client.aclose()
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.eml"))
    for process in ("auth", "auth-worker", "relay"):
        assert "token=" not in suite.log(process)
        assert f"{person.name}@example.com" not in suite.log(process)
