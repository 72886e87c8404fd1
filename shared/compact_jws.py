"""Compact JWS (RFC 7515) signed with ES256, made and read with the least work that is safe.

For tokens that are signed or checked once each: a service's tokens and grants, at every call. What
is signed is what any JOSE library would sign, and the tests hold the two against each other.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from shared.values import dataclass

ALGORITHM = "ES256"
_ES256 = ec.ECDSA(SHA256())
_NUMBER_BYTES = 32
# What `base64` does in five calls each.
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
_MOST_BYTES = 8192
# The signature's two numbers take 86 letters. Nothing but the alphabet itself, since Python's
# decoder overlooks what is not in it.
_FORM = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{86}\Z")


class NotSigned(ValueError):
    """No compact JWS of this algorithm, or not signed by this key."""


def signing_head(type_: str, key_id: str) -> bytes:
    """The first segment; it is the same for every token of a kind and key."""
    return _encoded(orjson.dumps({"alg": ALGORITHM, "typ": type_, "kid": key_id}))


def sign(head: bytes, claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """The token."""
    signed = b"%b.%b" % (head, _encoded(orjson.dumps(claims)))
    r, s = decode_dss_signature(key.sign(signed, _ES256))
    signature = r.to_bytes(_NUMBER_BYTES, "big") + s.to_bytes(_NUMBER_BYTES, "big")
    return (signed + b"." + _encoded(signature)).decode("ascii")


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token that has the right form; only its head may be believed to choose the key."""

    head: Mapping[str, Any]
    _signed: bytes
    _signature: bytes

    @classmethod
    def read(cls, token: str) -> Unverified:
        """Raises NotSigned."""
        if len(token) > _MOST_BYTES or not _FORM.match(token):
            raise NotSigned("not a compact JWS")
        signed, _, signature = token.encode("ascii").rpartition(b".")
        head = _head(signed.partition(b".")[0])
        # An extension that its signer calls critical is none that we know.
        if head.get("alg") != ALGORITHM or "crit" in head:
            raise NotSigned("another algorithm, or an extension")
        return cls(head, signed, signature)

    def claims(self, key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
        """What the key's owner signed. Raises NotSigned."""
        raw = _decoded(self._signature)
        r, s = raw[:_NUMBER_BYTES], raw[_NUMBER_BYTES:]
        signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        try:
            key.verify(signature, self._signed, _ES256)
        except InvalidSignature as error:
            raise NotSigned("the signature does not fit") from error
        return _object(self._signed.partition(b".")[2])


def _encoded(content: bytes) -> bytes:
    return b2a_base64(content, newline=False).translate(_TO_URL).rstrip(b"=")


def _decoded(segment: bytes) -> bytes:
    try:
        return a2b_base64(segment.translate(_FROM_URL) + b"==")
    except ValueError as error:
        raise NotSigned("not base64") from error


@lru_cache(maxsize=64)
def _head(segment: bytes) -> Mapping[str, Any]:
    # A service's tokens of one kind all begin alike.
    return _object(segment)


def _object(segment: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(_decoded(segment))
    except orjson.JSONDecodeError as error:
        raise NotSigned("not JSON") from error
    if not isinstance(found, dict):
        raise NotSigned("not an object")
    return found
