"""Our own compact JWS against a JOSE library: what one signs the other believes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey

from shared.compact_jws import NotSigned, Unverified, sign, signing_head

KEY, OTHER = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
CLAIMS = {"iss": "chat", "n": 2**53, "text": 'é "quoted" \u2028', "none": None}


def signed(claims: Any = None, *, key: ECKey = KEY) -> str:
    private: Any = key.private_key
    return sign(signing_head("grant+jwt", "chat.1"), CLAIMS if claims is None else claims, private)


def claims_of(token: str, key: ECKey = KEY) -> dict[str, Any]:
    public: Any = key.public_key
    return Unverified.read(token).claims(public)


def by_library(header: dict[str, Any] | None = None, key: ECKey = KEY) -> str:
    return jwt.encode({"alg": "ES256", **(header or {})}, CLAIMS, key, algorithms=["ES256"])


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_what_we_sign_a_library_believes() -> None:
    # Numbers of a signature may begin with zeros, which are a part of it: so look at many.
    for _ in range(200):
        token = jwt.decode(signed(), KEY, algorithms=["ES256"])
        assert token.header == {"alg": "ES256", "typ": "grant+jwt", "kid": "chat.1"}
        assert token.claims == CLAIMS
    with pytest.raises(BadSignatureError):
        jwt.decode(signed(key=OTHER), KEY, algorithms=["ES256"])


def test_what_a_library_signs_we_believe() -> None:
    for _ in range(200):
        token = by_library({"typ": "x+jwt", "kid": "k"})
        assert Unverified.read(token).head == {"alg": "ES256", "typ": "x+jwt", "kid": "k"}
        assert claims_of(token) == CLAIMS


def test_another_key_has_not_signed_it() -> None:
    with pytest.raises(NotSigned):
        claims_of(signed(key=OTHER))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_part_may_be_changed(part: int) -> None:
    theirs, ours = signed({"iss": "voice"}, key=OTHER).split("."), signed().split(".")
    theirs[0] = signing_head("other", "chat.1").decode()
    with pytest.raises(NotSigned):
        claims_of(".".join([*ours[:part], theirs[part], *ours[part + 1 :]]))


HEADS = {
    "none": {"alg": "none"},
    "a shared secret": {"alg": "HS256"},
    "another curve": {"alg": "ES384"},
    "a list": {"alg": ["ES256"]},
    "no algorithm": {"typ": "grant+jwt"},
    "an extension": {"alg": "ES256", "crit": ["b64"], "b64": False},
    "an empty extension": {"alg": "ES256", "crit": []},
    "no object": ["ES256"],
    "text": "ES256",
    "no JSON": b"{",
    "not UTF-8": b'{"alg":"ES256","x":"\xff"}',
    "deep": b"[" * 5000,
}


@pytest.mark.parametrize("how", HEADS)
def test_another_head_is_refused_before_anything_is_checked(how: str) -> None:
    _, claims, signature = signed().split(".")
    with pytest.raises(NotSigned):
        Unverified.read(f"{encoded(HEADS[how])}.{claims}.{signature}")


@pytest.mark.parametrize("claims", [b"[]", b"5", b"null", b'"x"', b"{", b"", b"\xff", b"{}x"])
def test_claims_that_are_no_object_are_refused(claims: bytes) -> None:
    private: Any = KEY.private_key
    head = signing_head("t", "k")
    content = head.decode() + "." + encoded(claims)
    r, s = decode_dss_signature(private.sign(content.encode(), ec.ECDSA(SHA256())))
    token = f"{content}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
    with pytest.raises(NotSigned):
        claims_of(token)


ZERO, ORDER = bytes(32), 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize(
    "signature",
    [
        ZERO * 2,
        ZERO + b"\1" * 32,
        b"\1" * 32 + ZERO,
        ORDER.to_bytes(32, "big") * 2,
        b"\xff" * 64,
        b"\1" * 63,
        b"\1" * 65,
        b"",
    ],
)
def test_numbers_that_are_no_signature_are_refused(signature: bytes) -> None:
    content = signed().rpartition(".")[0]
    with pytest.raises(NotSigned):
        claims_of(f"{content}.{encoded(signature)}")


def spoiled(token: str) -> dict[str, str]:
    head, claims, signature = token.split(".")
    return {
        "padding": f"{head}.{claims}.{signature}==",
        "padded head": f"{head}=.{claims}.{signature}",
        "a line end": f"{token}\n",
        "a space": f" {token}",
        "a space inside": f"{head}.{claims[:4]} {claims[4:]}.{signature}",
        "letters that are none": f"{head}.{claims[:4]}!!!!{claims[4:]}.{signature}",
        "the other alphabet": f"{head}.{claims}.{signature[:-2]}+/",
        "four parts": f"{token}.{signature}",
        "two parts": f"{head}.{signature}",
        "no claims": f"{head}..{signature}",
        "no head": f".{claims}.{signature}",
        "JSON": json.dumps({"protected": head, "payload": claims, "signature": signature}),
        "a letter of another script": f"{head}.{claims}.{signature[:-1]}\u0430",
        "a surrogate": f"{head}.{claims}.{signature[:-1]}\ud800",
        "one letter too much": f"{head}.{claims}A.{signature}",
        "too long": f"{head}.{claims}{'A' * 8192}.{signature}",
    }


@pytest.mark.parametrize("how", spoiled("a.b.c"))
def test_another_form_is_refused(how: str) -> None:
    with pytest.raises(NotSigned):
        claims_of(spoiled(signed())[how])


def test_claims_that_json_cannot_hold_are_not_signed() -> None:
    with pytest.raises(TypeError):
        signed({"key": object()})
