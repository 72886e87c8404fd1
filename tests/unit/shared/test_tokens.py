"""An access token is believed when everything about it is right, and not a moment longer."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from shared.errors import Unauthenticated, Unavailable
from shared.tokens import TokenVerifier, sign_access_token
from tests.support.tokens import AUDIENCE, ISSUER, TokenMint

ADA = UUID("0193b3f2-7c1e-7aaa-8bbb-0123456789ab")


class Keys:
    """Keys that a test changes, and how often they were asked for anew."""

    def __init__(self, *keys: Any) -> None:
        self.version = 1
        self.known = KeySet(list(keys))
        self.after_looking: KeySet | None = None
        self.asked: list[str] = []

    def now(self, *keys: Any) -> None:
        self.version += 1
        self.known = KeySet(list(keys))

    async def current(self) -> KeySet:
        return self.known

    async def refreshed_for(self, key_id: str) -> KeySet:
        self.asked.append(key_id)
        if self.after_looking is not None:
            self.known, self.version = self.after_looking, self.version + 1
        return self.known


@pytest.fixture(scope="module")
def mint() -> TokenMint:
    return TokenMint()


@pytest.fixture
def keys(mint: TokenMint) -> Keys:
    return Keys(mint.key)


@pytest.fixture
def verifier(keys: Keys) -> TokenVerifier:
    return TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)


def encoded(part: Any) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def good_claims(mint: TokenMint) -> dict[str, Any]:
    payload = mint.token(ADA).split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return claims


def signed(mint: TokenMint, claims: Any, **header: Any) -> str:
    """A token with a good signature over whatever it is given."""
    head = {"alg": "ES256", "typ": "at+jwt", "kid": mint.key.kid, **header}
    head = {name: value for name, value in head.items() if value is not None}
    payload = json.dumps(claims).encode()
    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    return jws.serialize_compact(head, payload, mint.key, registry=registry)


async def test_a_good_token_tells_who_is_calling(mint: TokenMint, verifier: TokenVerifier) -> None:
    organisation, sign_in = uuid4(), uuid4()
    token = mint.token(
        ADA, tier="pro", role="operator", org=str(organisation), scope="a b", sid=str(sign_in)
    )
    identity = await verifier.verify(token)
    assert identity.user_id == ADA
    assert (identity.tier, identity.role) == ("pro", "operator")
    assert identity.organisation_id == organisation
    assert identity.scopes == {"a", "b"}
    assert identity.sign_in_id == sign_in
    assert await verifier.verify(token) is identity


def alg_none(mint: TokenMint) -> str:
    header = {"alg": "none", "typ": "at+jwt", "kid": mint.key.kid}
    return f"{encoded(header)}.{encoded(good_claims(mint))}."


def hs256_with_the_public_key(mint: TokenMint) -> str:
    # By hand: the library does not take a public key for a secret.
    header = {"alg": "HS256", "typ": "at+jwt", "kid": mint.key.kid}
    signed = f"{encoded(header)}.{encoded(good_claims(mint))}"
    secret = mint.key.as_pem(private=False)
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


def rs256(mint: TokenMint) -> str:
    key = RSAKey.generate_key(2048, {"kid": str(mint.key.kid)})
    header = {"alg": "RS256", "typ": "at+jwt", "kid": mint.key.kid}
    return jwt.encode(header, good_claims(mint), key, algorithms=["RS256"])


def another_key_under_the_same_id(mint: TokenMint) -> str:
    key = ECKey.generate_key("P-256", {"kid": str(mint.key.kid)})
    return sign_access_token(
        key, good_claims(mint), issued_at=int(time.time()), lifetime_seconds=900
    )


def key_in_the_header(mint: TokenMint) -> str:
    key = ECKey.generate_key("P-256")
    header: dict[str, Any] = {"alg": "ES256", "typ": "at+jwt", "kid": mint.key.kid}
    header["jwk"] = key.as_dict(private=False)
    return jwt.encode(header, good_claims(mint), key, algorithms=["ES256"])


def changed_claims(mint: TokenMint) -> str:
    head, _, signature = mint.token(ADA).split(".")
    return f"{head}.{encoded(good_claims(mint) | {'tier': 'enterprise'})}.{signature}"


def changed_signature(mint: TokenMint) -> str:
    head, payload, signature = mint.token(ADA).split(".")
    return f"{head}.{payload}.{signature[:-4]}AAAA"


def deep_header(mint: TokenMint) -> str:
    return f"{encoded(b'[' * 5000)}.e30.x"


def deep_claims(mint: TokenMint) -> str:
    head = {"alg": "ES256", "typ": "at+jwt", "kid": mint.key.kid}
    return jws.serialize_compact(head, b'{"a":' * 1100 + b"1" + b"}" * 1100, mint.key)


def huge_number(mint: TokenMint) -> str:
    head = {"alg": "ES256", "typ": "at+jwt", "kid": mint.key.kid}
    return jws.serialize_compact(head, b'{"exp": ' + b"9" * 5000 + b"}", mint.key)


FORGED: list[Callable[[TokenMint], str]] = [
    alg_none,
    hs256_with_the_public_key,
    rs256,
    another_key_under_the_same_id,
    key_in_the_header,
    changed_claims,
    changed_signature,
    deep_header,
    deep_claims,
    huge_number,
]


@pytest.mark.parametrize("forge", FORGED, ids=lambda forge: forge.__name__)
async def test_a_forged_token_is_refused(
    mint: TokenMint, verifier: TokenVerifier, forge: Callable[[TokenMint], str]
) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(forge(mint))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "svc+jwt"},
        {"typ": "grant+jwt"},
        {"typ": None},
        {"typ": ["at+jwt"]},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["unheard"], "unheard": True},
        {"kid": None},
        {"kid": 5},
        {"kid": ""},
        {"kid": ["x"]},
        {"kid": "../../etc/passwd"},
    ],
)
async def test_a_signed_token_with_another_header_is_refused(
    mint: TokenMint, verifier: TokenVerifier, header: dict[str, Any]
) -> None:
    head = {"alg": "ES256", "typ": "at+jwt", "kid": mint.key.kid, **header}
    head = {name: value for name, value in head.items() if value is not None}
    signing_input = f"{encoded(head)}.{encoded(good_claims(mint))}"
    # By hand, since a library rightly refuses to make some of these.
    algorithm = jws.JWSRegistry().get_alg("ES256")
    signature = algorithm.sign(signing_input.encode(), mint.key)
    with pytest.raises(Unauthenticated):
        await verifier.verify(f"{signing_input}.{encoded(signature)}")


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.invalid"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "somebody-else"},
        {"aud": [AUDIENCE]},
        {"aud": None},
        {"exp": NOW - 11},
        {"exp": NOW - 10**9},
        {"exp": str(NOW + 900)},
        {"exp": float(NOW + 900)},
        {"exp": True},
        {"exp": None},
        {"exp": {}},
        {"iat": NOW + 3600},
        {"iat": "now"},
        {"iat": None},
        {"sub": None},
        {"sub": "ada"},
        {"sub": 5},
        {"sub": ["x"]},
        {"sid": None},
        {"sid": "x"},
        {"tier": ...},
        {"role": ...},
        {"jti": ...},
        {"sub": ...},
        {"exp": ...},
        {"org": "no-uuid"},
        {"org": 5},
        {"scope": 5},
        {"scope": None},
    ],
)
async def test_a_signed_token_with_other_claims_is_refused(
    mint: TokenMint, verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    claims = good_claims(mint) | changes
    claims = {name: value for name, value in claims.items() if value is not ...}
    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(mint, claims))


@pytest.mark.parametrize("claims", [[], "text", 5, None, [{"exp": 1}]])
async def test_claims_that_are_no_object_are_refused(
    mint: TokenMint, verifier: TokenVerifier, claims: Any
) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(mint, claims))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "a" * 10_000, "é.é.é", "\ud800", "\0"])
async def test_what_is_no_token_is_refused(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


@given(token=st.text(max_size=60) | st.from_regex(r"[\w-]{0,30}\.[\w-]{0,30}\.[\w-]{0,30}"))
async def test_any_text_is_refused(token: str) -> None:
    verifier = TokenVerifier(Keys(), issuer=ISSUER, audience=AUDIENCE)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_clocks_may_differ_a_little(mint: TokenMint, verifier: TokenVerifier) -> None:
    now = int(time.time())
    claims = good_claims(mint)
    await verifier.verify(signed(mint, claims | {"exp": now - 5, "iat": now - 905}))
    await verifier.verify(signed(mint, claims | {"iat": now + 5}))


async def test_a_remembered_token_still_expires(
    mint: TokenMint, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = mint.token(ADA, lifetime_seconds=60)
    await verifier.verify(token)
    later = time.time() + 71
    monkeypatch.setattr(time, "time", lambda: later)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)


async def test_a_removed_key_ends_its_tokens_at_once(
    mint: TokenMint, keys: Keys, verifier: TokenVerifier
) -> None:
    token = mint.token(ADA)
    await verifier.verify(token)
    keys.now(ECKey.generate_key("P-256", auto_kid=True))
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_a_new_key_is_looked_for_once(
    mint: TokenMint, keys: Keys, verifier: TokenVerifier
) -> None:
    newer = TokenMint()
    keys.after_looking = KeySet([mint.key, newer.key])
    assert (await verifier.verify(newer.token(ADA))).user_id == ADA
    await verifier.verify(newer.token(ADA))
    await verifier.verify(mint.token(ADA))
    assert keys.asked == [newer.key.kid]


async def test_a_bad_token_is_not_remembered_as_good(
    mint: TokenMint, verifier: TokenVerifier
) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await verifier.verify(changed_claims(mint))


async def test_the_memory_is_bounded(mint: TokenMint, keys: Keys) -> None:
    verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, remember=3)
    made = [mint.token(uuid4()) for _ in range(5)]
    identities = [await verifier.verify(token) for token in made]
    assert len(verifier._seen) == 3
    assert await verifier.verify(made[4]) is identities[4]
    assert await verifier.verify(made[0]) == identities[0]


async def test_no_key_to_check_with_is_trouble_of_ours(mint: TokenMint) -> None:
    class NoKeys(Keys):
        async def current(self) -> KeySet:
            raise Unavailable("no keys")

    verifier = TokenVerifier(NoKeys(), issuer=ISSUER, audience=AUDIENCE)
    with pytest.raises(Unavailable):
        await verifier.verify(mint.token(ADA))
