"""What stands in the tokens that we give out."""

import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from services.auth.domain.membership import Membership, OrganisationRole
from shared.scopes import of_sign_in
from shared.tokens import TokenVerifier
from tests.support.auth import LIFETIMES, NOON, a_sign_in, a_user, an_issuer, some_signing_keys
from tests.support.tokens import AUDIENCE, ISSUER


class OurKeys:
    version = 1

    async def current(self) -> KeySet:
        return KeySet([some_signing_keys().active])

    async def refreshed_for(self, _key_id: str) -> KeySet:
        return await self.current()


async def test_everyone_accepts_our_access_token_and_reads_who_it_is() -> None:
    user = a_user(tier="pro")
    sign_in = a_sign_in(user)
    pair = an_issuer().pair(user, sign_in, datetime.now(UTC))
    verifier = TokenVerifier(OurKeys(), issuer=ISSUER, audience=AUDIENCE)
    identity = await verifier.verify(pair.access_token)
    assert identity.user_id == user.id
    assert identity.sign_in_id == sign_in.id
    assert (identity.tier, identity.role) == ("pro", "member")
    assert identity.organisation_id is None
    assert identity.scopes == of_sign_in("member")
    assert identity.authenticated_at == int(sign_in.authenticated_at.timestamp())
    assert (identity.methods, identity.has_second_factor) == (frozenset({"pwd"}), False)
    assert identity.expires_at - time.time() <= 15 * 60


def test_an_access_token_has_exactly_the_agreed_claims() -> None:
    pair = an_issuer().pair(a_user(), a_sign_in(a_user()), datetime.now(UTC))
    token = jwt.decode(pair.access_token, some_signing_keys().active, algorithms=["ES256"])
    assert token.header == {
        "alg": "ES256",
        "typ": "at+jwt",
        "kid": some_signing_keys().active.kid,
    }
    assert set(token.claims) == {
        *("iss", "sub", "aud", "exp", "iat", "jti", "sid", "tier", "role", "org", "scope"),
        *("org_role", "org_seated", "auth_time", "amr", "mfa"),
    }
    assert token.claims["exp"] - token.claims["iat"] == 15 * 60


def test_a_role_in_an_organisation_never_becomes_a_role_of_the_operator() -> None:
    membership = Membership(uuid4(), OrganisationRole.BILLING, "enterprise", NOON, NOON)
    user = a_user(membership=membership)
    pair = an_issuer().pair(user, a_sign_in(user), datetime.now(UTC))
    token = jwt.decode(pair.access_token, some_signing_keys().active, algorithms=["ES256"])
    assert (token.claims["role"], token.claims["org_role"]) == ("member", "billing")
    assert token.claims["org"] == str(membership.organisation_id)
    assert token.claims["tier"] == "enterprise"
    assert "usage:write" not in token.claims["scope"]


@pytest.mark.parametrize(
    ("own", "theirs", "seated", "effective"),
    [
        ("free", "enterprise", True, "enterprise"),
        ("free", "enterprise", False, "free"),
        ("enterprise", "pro", True, "enterprise"),
        ("pro", "free", True, "pro"),
    ],
)
def test_the_higher_of_both_tiers_counts_for_whoever_has_a_seat(
    own: str, theirs: str, seated: bool, effective: str
) -> None:
    seat = NOON if seated else None
    membership = Membership(uuid4(), OrganisationRole.MEMBER, theirs, NOON, seat)
    assert a_user(tier=own, membership=membership).effective_tier == effective


def test_a_token_tells_whether_its_user_has_a_seat() -> None:
    def told(membership: Membership | None) -> bool:
        user = a_user(membership=membership)
        pair = an_issuer().pair(user, a_sign_in(user), datetime.now(UTC))
        key = some_signing_keys().active
        return bool(jwt.decode(pair.access_token, key, algorithms=["ES256"]).claims["org_seated"])

    without = Membership(uuid4(), OrganisationRole.MEMBER, "pro", NOON, None)
    with_one = Membership(uuid4(), OrganisationRole.MEMBER, "pro", NOON, NOON)
    assert [told(None), told(without), told(with_one)] == [False, False, True]


def test_access_tokens_differ_while_the_refresh_token_stays_until_it_is_used() -> None:
    user = a_user()
    sign_in, now = a_sign_in(user), datetime.now(UTC)
    one, two = an_issuer().pair(user, sign_in, now), an_issuer().pair(user, sign_in, now)
    assert one.access_token != two.access_token
    assert one.refresh_token == two.refresh_token
    next_ = an_issuer().pair(user, sign_in.rotated(now, LIFETIMES), now)
    assert next_.refresh_token != one.refresh_token


def test_a_pair_does_not_show_itself() -> None:
    pair = an_issuer().pair(a_user(), a_sign_in(a_user()), datetime.now(UTC))
    assert pair.access_token not in repr(pair)
    assert pair.refresh_token not in repr(pair)
    assert isinstance(pair.user.id, UUID)
