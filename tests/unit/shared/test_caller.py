"""Whose key a vendor is to be asked with, as a request's token says it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from shared.http.caller import Caller, on_behalf_of
from shared.ids import UserId
from shared.tokens import Identity

FIRM = UUID(int=7)
ADA = Identity(
    user_id=UserId(uuid4()),
    tier="pro",
    role="member",
    organisation_id=FIRM,
    scopes=frozenset(),
    sign_in_id=uuid4(),
    expires_at=2,
    issued_at=1,
)


@pytest.mark.parametrize(("has_seat", "served_by"), [(True, FIRM), (False, None)])
def test_an_organisations_key_may_serve_a_member_whatever_their_token_says_of_a_seat(
    has_seat: bool, served_by: UUID | None
) -> None:
    by = on_behalf_of(Caller(replace(ADA, has_seat=has_seat), "text"))
    assert (by.organisation_id, by.served_by) == (FIRM, served_by)
