"""Organisations in a running suite: seats bought, people invited by mail."""

from __future__ import annotations

import email
import re
from email import policy

from tests.support.suite import Person, Suite, eventually


async def mailed_token(suite: Suite, person: Person, page: str) -> str:
    """The token in the newest mail to a person that leads to a page."""

    async def look() -> list[str]:
        found = []
        for path in sorted(suite.installation.data.mail.glob("*.eml")):
            message = email.message_from_bytes(path.read_bytes(), policy=policy.default)
            if message["To"] == f"{person.name}@example.com":
                text = message.get_body(("plain",))
                assert text is not None
                found += re.findall(rf"/oauth/{page}\?token=([\w-]+)", text.get_content())
        return found

    return (await eventually(look, bool))[-1]


async def confirm_address(suite: Suite, person: Person) -> None:
    """Prove a person's address by the mail that went there, unless it is proven."""
    if (await person.client.get("/auth/me")).json()["email_verified"]:
        return
    token = await mailed_token(suite, person, "verify-email")
    answer = await person.client.post("/auth/verify-email", json={"token": token})
    assert answer.status_code == 204, answer.text


async def found(owner: Person, name: str) -> str:
    """Found an organisation; answers its id."""
    founded = await owner.client.post("/auth/organisations", json={"name": name})
    assert founded.status_code == 201, founded.text
    return str(founded.json()["id"])


async def buy(owner: Person, firm: str, seats: int) -> None:
    """Buy seats, and wait until auth knows them."""
    body = {"tier": "enterprise", "seats": seats, "organisation_id": firm}
    answer = await owner.client.put("/billing/subscription", json=body)
    assert answer.status_code == 200, answer.text

    async def seats_known() -> int:
        return int((await owner.client.get(f"/auth/organisations/{firm}")).json()["seats"])

    await eventually(seats_known, lambda seen: seen == seats)


async def join(suite: Suite, owner: Person, firm: str, person: Person) -> None:
    """Invite a person, who accepts and has a seat."""
    for one in (owner, person):
        await confirm_address(suite, one)
    invited = await owner.client.post(
        f"/auth/organisations/{firm}/invitations", json={"email": f"{person.name}@example.com"}
    )
    assert invited.status_code == 201, invited.text
    token = await mailed_token(suite, person, "accept-invitation")
    joined = await person.client.post(f"/auth/invitations/{token}/accept")
    assert joined.json() == {"organisation": firm, "role": "member", "seated": True}
