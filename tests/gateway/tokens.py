"""Access tokens, good and bad, and the key set that the gateway checks them against."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import ECKey

ISSUER = "https://companion.invalid/auth"
AUDIENCE = "companion"
ADA = "0198c0de-0000-7000-8000-00000000ada0"


def a_key(kid: str = "first") -> ECKey:
    return ECKey.generate_key("P-256", parameters={"kid": kid, "alg": "ES256", "use": "sig"})


def key_set(*keys: ECKey) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; a change to None leaves that claim out."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": ADA,
        "exp": now + 900,
        "iat": now,
        "jti": str(uuid4()),
        "sid": str(uuid4()),
        "tier": "free",
        "role": "member",
        "org": None,
        "scope": "",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def a_token(key: ECKey, *, kid: str | None = None, **changes: Any) -> str:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": kid or key.kid}
    return jwt.encode(header, claims(**changes), key, algorithms=["ES256"])


def token_with_header(key: ECKey, **header: Any) -> str:
    """A good signature and good claims under a header of one's own making."""
    return jwt.encode({"alg": "ES256", **header}, claims(), key, algorithms=["ES256"])


def unsigned_token() -> str:
    return f"{_part({'alg': 'none', 'typ': 'at+jwt'})}.{_part(claims())}."


def token_signed_with_the_public_key(key: ECKey) -> str:
    """What a library accepts that lets the token choose between HMAC and ECDSA."""
    signed = f"{_part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': key.kid})}.{_part(claims())}"
    digest = hmac.new(key.as_pem(private=False), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encoded(digest)}"


def token_with_another_body(key: ECKey) -> str:
    header, _, signature = a_token(key).split(".")
    return f"{header}.{_part(claims(tier='enterprise'))}.{signature}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _part(value: dict[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
