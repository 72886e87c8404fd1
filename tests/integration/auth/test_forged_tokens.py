"""Every way we know of to forge an access token, tried at the door."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc import jws
from joserfc.jwk import ECKey

from services.auth.domain.signing_keys import SigningKeys, parse_signing_keys
from tests.support.auth import RunningAuth
from tests.support.tokens import AUDIENCE, ISSUER

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Claims = dict[str, Any]
Forgery = Callable[[SigningKeys, Claims], str]


def b64(part: bytes) -> str:
    return urlsafe_b64encode(part).decode().rstrip("=")


def as_part(value: Any) -> str:
    return b64(json.dumps(value).encode())


def signed(
    key: ECKey, claims: Any, header: dict[str, Any] | None = None, *, raw: bytes | None = None
) -> str:
    """A token with whatever header and body, signed with a key."""
    protected = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid, **(header or {})}
    protected = {name: value for name, value in protected.items() if value is not None}
    body = as_part(claims) if raw is None else b64(raw)
    message = f"{as_part(protected)}.{body}"
    algorithm = jws.JWSRegistry.algorithms["ES256"]
    return f"{message}.{b64(algorithm.sign(message.encode(), key))}"


def with_mac(secret: bytes, claims: Claims, kid: str) -> str:
    message = f"{as_part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid})}.{as_part(claims)}"
    return f"{message}.{b64(hmac.digest(secret, message.encode(), hashlib.sha256))}"


def without(claim: str) -> Forgery:
    def forge(keys: SigningKeys, claims: Claims) -> str:
        return signed(keys.active, {k: v for k, v in claims.items() if k != claim})

    return forge


def claiming(**values: Any) -> Forgery:
    return lambda keys, claims: signed(keys.active, {**claims, **values})


def headed(**values: Any) -> Forgery:
    return lambda keys, claims: signed(keys.active, claims, values)


def unsigned(alg: str) -> Forgery:
    def forge(keys: SigningKeys, claims: Claims) -> str:
        header = {"alg": alg, "typ": "at+jwt", "kid": keys.active.kid}
        return f"{as_part(header)}.{as_part(claims)}."

    return forge


def of_public_key(encoding: str) -> Forgery:
    def forge(keys: SigningKeys, claims: Claims) -> str:
        secret = (
            keys.active.as_pem(private=False)
            if encoding == "pem"
            else json.dumps(keys.active.as_dict(private=False)).encode()
        )
        return with_mac(secret, claims, str(keys.active.kid))

    return forge


def of_an_embedded_key(keys: SigningKeys, claims: Claims) -> str:
    own = ECKey.generate_key("P-256", {"kid": str(keys.active.kid)})
    return signed(own, claims, {"jwk": own.as_dict(private=False)})


def of_a_key_elsewhere(keys: SigningKeys, claims: Claims) -> str:
    own = ECKey.generate_key("P-256", {"kid": str(keys.active.kid)})
    return signed(own, claims, {"jku": "http://127.0.0.1:1/jwks.json"})


def of_a_certificate_elsewhere(keys: SigningKeys, claims: Claims) -> str:
    own = ECKey.generate_key("P-256", {"kid": str(keys.active.kid)})
    return signed(own, claims, {"x5u": "http://127.0.0.1:1/chain.pem", "x5c": ["AA=="]})


def of_an_unknown_key(keys: SigningKeys, claims: Claims) -> str:
    return signed(ECKey.generate_key("P-256", auto_kid=True), claims)


def of_numbers(r: int, s: int) -> Forgery:
    def forge(keys: SigningKeys, claims: Claims) -> str:
        token = signed(keys.active, claims).rpartition(".")[0]
        return f"{token}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    return forge


def with_another_body(keys: SigningKeys, claims: Claims) -> str:
    header, _, signature = signed(keys.active, claims).split(".")
    return f"{header}.{as_part({**claims, 'role': 'operator'})}.{signature}"


def with_a_flipped_bit(keys: SigningKeys, claims: Claims) -> str:
    head, _, signature = signed(keys.active, claims).rpartition(".")
    raw = bytearray(urlsafe_b64decode(signature + "=="))
    raw[5] ^= 1
    return f"{head}.{b64(bytes(raw))}"


def claiming_twice(claim: str, first: Any) -> Forgery:
    """The second one is good, which is the one that most parsers take."""

    def forge(keys: SigningKeys, claims: Claims) -> str:
        body = f"{{{json.dumps(claim)}: {json.dumps(first)}, {json.dumps(claims)[1:]}"
        return signed(keys.active, claims, raw=body.encode())

    return forge


def with_two_key_ids(keys: SigningKeys, claims: Claims) -> str:
    header = f'{{"kid": "x", "alg": "ES256", "typ": "at+jwt", "kid": "{keys.active.kid}"}}'
    message = f"{b64(header.encode())}.{as_part(claims)}"
    algorithm = jws.JWSRegistry.algorithms["ES256"]
    return f"{message}.{b64(algorithm.sign(message.encode(), keys.active))}"


def with_a_der_signature(keys: SigningKeys, claims: Claims) -> str:
    """As OpenSSL writes signatures; a JWS has two numbers of 32 bytes each."""
    head, _, signature = signed(keys.active, claims).rpartition(".")
    raw = urlsafe_b64decode(signature + "==")
    numbers = (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    return f"{head}.{b64(encode_dss_signature(*numbers))}"


def with_a_longer_signature(keys: SigningKeys, claims: Claims) -> str:
    head, _, signature = signed(keys.active, claims).rpartition(".")
    return f"{head}.{b64(urlsafe_b64decode(signature + '==') + bytes(8))}"


def with_a_body_that_is_no_object(keys: SigningKeys, claims: Claims) -> str:
    return signed(keys.active, [claims])


def with_a_body_that_is_no_json(keys: SigningKeys, claims: Claims) -> str:
    return signed(keys.active, claims, raw=b"\xff{")


def with_a_deep_body(keys: SigningKeys, claims: Claims) -> str:
    return signed(keys.active, claims, raw=b"[" * 4000)


def as_a_huge_token(keys: SigningKeys, claims: Claims) -> str:
    return signed(keys.active, {**claims, "scope": "x" * 20_000})


def of_text(text: str) -> Forgery:
    return lambda _keys, _claims: text


NOW = int(time.time())
FORGERIES: dict[str, Forgery] = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg empty": unsigned(""),
    "ES256 without signature": unsigned("ES256"),
    "HS256 with the public PEM": of_public_key("pem"),
    "HS256 with the public JWK": of_public_key("jwk"),
    "alg ES384": headed(alg="ES384"),
    "alg EdDSA": headed(alg="EdDSA"),
    "alg RS256": headed(alg="RS256"),
    "alg es256": headed(alg="es256"),
    "alg a list": headed(alg=["ES256"]),
    "alg missing": headed(alg=None),
    "alg no text": headed(alg=7),
    "typ JWT": headed(typ="JWT"),
    "typ refresh": headed(typ="refresh+jwt"),
    "typ service": headed(typ="svc+jwt"),
    "typ grant": headed(typ="grant+jwt"),
    "typ missing": headed(typ=None),
    "kid missing": headed(kid=None),
    "kid a path": headed(kid="../../etc/passwd"),
    "kid no text": headed(kid={"a": 1}),
    "crit unknown": headed(crit=["exp", "x"], x=1),
    "crit b64": headed(crit=["b64"], b64=False),
    "crit empty": headed(crit=[]),
    "crit no list": headed(crit="exp"),
    "embedded jwk": of_an_embedded_key,
    "jku": of_a_key_elsewhere,
    "x5u": of_a_certificate_elsewhere,
    "unknown key": of_an_unknown_key,
    **{
        f"no {claim}": without(claim)
        for claim in ("iss", "sub", "aud", "exp", "iat", "jti", "sid", "tier", "role")
    },
    "expired": claiming(exp=NOW - 60),
    "exp a text": claiming(exp=str(NOW + 900)),
    "exp a float": claiming(exp=NOW + 900.5),
    "exp true": claiming(exp=True),
    "exp null": claiming(exp=None),
    "from the future": claiming(iat=NOW + 3600, exp=NOW + 4500),
    "other issuer": claiming(iss="https://elsewhere.invalid/auth"),
    "issuer with a slash": claiming(iss=ISSUER + "/"),
    "other audience": claiming(aud="keyvault"),
    "list of audiences": claiming(aud=[AUDIENCE]),
    "list of more audiences": claiming(aud=["keyvault", AUDIENCE]),
    "empty list of audiences": claiming(aud=[]),
    "empty audience": claiming(aud=""),
    "audience null": claiming(aud=None),
    "sub no id": claiming(sub="root"),
    "sub a number": claiming(sub=7),
    "sub a list": claiming(sub=["x"]),
    "sid no id": claiming(sid="x"),
    "org no id": claiming(org="x"),
    "scope a list": claiming(scope=["a"]),
    "r and s zero": of_numbers(0, 0),
    "r zero": of_numbers(0, 1),
    "s zero": of_numbers(1, 0),
    "r and s huge": of_numbers(2**256 - 1, 2**256 - 1),
    "r and s the order": of_numbers(P256_ORDER, P256_ORDER),
    "r and s one": of_numbers(1, 1),
    "another body": with_another_body,
    "a flipped bit": with_a_flipped_bit,
    "two subjects": claiming_twice("sub", "00000000-0000-7000-8000-000000000000"),
    "two audiences": claiming_twice("aud", "keyvault"),
    "two roles": claiming_twice("role", "operator"),
    "two scopes": claiming_twice("scope", "account keys"),
    "two key ids": with_two_key_ids,
    "a signature in DER": with_a_der_signature,
    "a longer signature": with_a_longer_signature,
    "a list as body": with_a_body_that_is_no_object,
    "no JSON as body": with_a_body_that_is_no_json,
    "a deep body": with_a_deep_body,
    "a huge token": as_a_huge_token,
    "two parts": of_text("a.b"),
    "five parts": of_text("a.b.c.d.e"),
    "empty parts": of_text(".."),
    "a dot": of_text("."),
    "a deep header": of_text(f"{b64(b'[' * 4000)}.{as_part({})}.AA"),
    "a deep header of objects": of_text(b64(b'{"a":' * 1000) + ".e30.AA"),
    "no base64": of_text("%%%.%%%.%%%"),
    "an array as header": of_text(f"{as_part([])}.{as_part({})}.AA"),
    "Latin-1": of_text("é.é.é"),
    "a personal token": of_text("ttc_" + "a" * 49),
}


@pytest.fixture(scope="module")
def keys(auth: RunningAuth) -> SigningKeys:
    path = auth.settings.signing_keys_file
    assert path is not None
    return parse_signing_keys(path.read_text())


async def good_claims(auth: RunningAuth) -> Claims:
    account = await auth.account()
    now = int(time.time())
    return {
        "iss": ISSUER,
        "sub": str(account.id),
        "aud": AUDIENCE,
        "exp": now + 900,
        "iat": now,
        "jti": str(uuid4()),
        "sid": str(uuid4()),
        "tier": "free",
        "role": "member",
        "org": None,
        "scope": "account",
        "auth_time": now,
        "amr": ["pwd"],
        "mfa": False,
    }


async def test_what_the_forgeries_start_from_is_accepted(
    auth: RunningAuth, keys: SigningKeys
) -> None:
    claims = await good_claims(auth)
    assert (await auth.me(signed(keys.active, claims))).status_code == 200


@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_forged_token_is_refused(auth: RunningAuth, keys: SigningKeys, kind: str) -> None:
    token = FORGERIES[kind](keys, await good_claims(auth))
    header = f"Bearer {token}".encode("latin-1")
    answer = await auth.client.get("/auth/me", headers=[(b"authorization", header)])
    assert answer.status_code == 401, answer.text
    assert len(token) < 10 or token not in answer.text
