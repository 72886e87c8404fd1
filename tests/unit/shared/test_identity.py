"""What services sign for each other: for one audience, for a minute, in nobody else's name."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from shared.errors import Unauthenticated
from shared.identity import OnBehalfOf, Peers, ServiceIdentity, key_id
from shared.ids import UserId
from tests.support.tokens import TokenMint, identity_of, write_identities

ADA = UserId(uuid4())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("identities")
    write_identities(directory)
    return directory


@pytest.fixture
def chat(directory: Path) -> ServiceIdentity:
    return identity_of(directory, "chat")


@pytest.fixture
def keyvault(directory: Path) -> Peers:
    return Peers.from_file("keyvault", directory / "trusted.json")


def a_grant(chat: ServiceIdentity) -> str:
    return chat.grant(user_id=ADA, provider="openai", request_id="request-77")


def forged(directory: Path, signer: str, type_: str, header: Any = None, **claims: Any) -> str:
    """Signed with a service's real key, with claims of the test's choice."""
    key = ECKey.import_key((directory / f"{signer}.pem").read_text())
    now = int(time.time())
    head = {"alg": "ES256", "typ": type_, "kid": key_id(signer, key), **(header or {})}
    body = {"iss": signer, "aud": "keyvault", "iat": now, "exp": now + 60, "jti": str(uuid4())}
    body |= {"sub": str(ADA), "provider": "openai", "req": "r", **claims}
    body = {name: value for name, value in body.items() if value is not ...}
    return jwt.encode(head, body, key, algorithms=["ES256"])


def test_a_grant_says_who_needs_whose_key_for_what(chat: ServiceIdentity, keyvault: Peers) -> None:
    grant = keyvault.grant_of(a_grant(chat))
    assert (grant.service, grant.user_id, grant.provider) == ("chat", ADA, "openai")
    assert grant.request_id == "request-77"
    assert grant.grant_id.version == 7


def test_every_grant_is_another(chat: ServiceIdentity, keyvault: Peers) -> None:
    ids = {keyvault.grant_of(a_grant(chat)).grant_id for _ in range(10)}
    assert len(ids) == 10


def test_a_service_token_tells_who_is_calling(chat: ServiceIdentity, keyvault: Peers) -> None:
    assert keyvault.service_of(chat.token_for("keyvault")) == "chat"


def test_a_token_for_another_audience_is_refused(directory: Path, chat: ServiceIdentity) -> None:
    billing = Peers.from_file("billing", directory / "trusted.json")
    with pytest.raises(Unauthenticated):
        billing.service_of(chat.token_for("keyvault"))
    with pytest.raises(Unauthenticated):
        billing.grant_of(a_grant(chat))


def test_a_grant_is_no_service_token_nor_the_other_way_round(
    chat: ServiceIdentity, keyvault: Peers
) -> None:
    with pytest.raises(Unauthenticated):
        keyvault.service_of(a_grant(chat))
    with pytest.raises(Unauthenticated):
        keyvault.grant_of(chat.token_for("keyvault"))


def test_a_users_token_is_neither(keyvault: Peers) -> None:
    token = TokenMint().token(ADA)
    with pytest.raises(Unauthenticated):
        keyvault.service_of(token)
    with pytest.raises(Unauthenticated):
        keyvault.grant_of(token)


def test_a_token_expires_within_a_minute(
    chat: ServiceIdentity, keyvault: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = a_grant(chat)
    later = time.time() + 71
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthenticated):
        keyvault.grant_of(token)


NOW = int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "voice"},
        {"iss": "keyvault"},
        {"iss": None},
        {"iss": ["chat"]},
        {"iss": ...},
        {"aud": "billing"},
        {"aud": ["keyvault"]},
        {"aud": None},
        {"exp": NOW + 3600},
        {"exp": NOW + 10**9},
        {"exp": NOW - 60},
        {"exp": str(NOW + 30)},
        {"exp": float(NOW + 30)},
        {"exp": True},
        {"exp": ...},
        {"sub": "ada"},
        {"sub": None},
        {"sub": ...},
        {"jti": "again"},
        {"jti": 5},
        {"jti": ...},
        {"provider": ...},
        {"req": ...},
    ],
)
def test_a_grant_with_other_claims_is_refused(
    directory: Path, keyvault: Peers, claims: dict[str, Any]
) -> None:
    assert keyvault.grant_of(forged(directory, "chat", "grant+jwt")).service == "chat"
    with pytest.raises(Unauthenticated):
        keyvault.grant_of(forged(directory, "chat", "grant+jwt", **claims))


@pytest.mark.parametrize("other", ["voice", "auth", "nobody", "", ".", "chat.", "chat"])
def test_a_service_cannot_sign_in_anothers_name(
    directory: Path, keyvault: Peers, other: str
) -> None:
    chats = ECKey.import_key((directory / "chat.pem").read_text())
    thumbprint = key_id("chat", chats).partition(".")[2]
    for kid in (other, f"{other}.{thumbprint}"):
        if kid == key_id("chat", chats):
            continue
        for claims in ({}, {"iss": other}, {"iss": kid}):
            with pytest.raises(Unauthenticated):
                keyvault.grant_of(forged(directory, "chat", "grant+jwt", {"kid": kid}, **claims))


def test_another_services_name_beside_the_right_key_is_refused(
    directory: Path, keyvault: Peers
) -> None:
    for issuer in ("voice", "chat.", "chat.x", "cha", ""):
        with pytest.raises(Unauthenticated):
            keyvault.grant_of(forged(directory, "chat", "grant+jwt", iss=issuer))


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"typ": "at+jwt"}, {"kid": None}])
def test_another_header_is_refused(
    directory: Path, keyvault: Peers, header: dict[str, Any]
) -> None:
    head = {name: value for name, value in header.items() if value is not None}
    if header.get("kid", ...) is None:
        head["kid"] = "stranger"
    with pytest.raises(Unauthenticated):
        keyvault.grant_of(forged(directory, "chat", "grant+jwt", head))


def test_changed_claims_are_refused(chat: ServiceIdentity, keyvault: Peers) -> None:
    head, payload, signature = a_grant(chat).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["sub"] = str(uuid4())
    replaced = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    with pytest.raises(Unauthenticated):
        keyvault.grant_of(f"{head}.{replaced}.{signature}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "a.b.c",
        "é.é.é",
        "�",
        "eyJhbGciOiJub25lIn0.e30.",
        "W" * 40000,
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.x",
    ],
)
def test_what_is_no_token_is_refused(keyvault: Peers, token: str) -> None:
    with pytest.raises(Unauthenticated):
        keyvault.service_of(token)
    with pytest.raises(Unauthenticated):
        keyvault.grant_of(token)


def test_a_key_that_does_not_fit_fails_at_start(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no key")
    with pytest.raises(ValueError):
        ServiceIdentity.from_file("chat", tmp_path / "bad.pem")
    with pytest.raises(OSError):
        ServiceIdentity.from_file("chat", tmp_path / "absent.pem")
    (tmp_path / "trust.json").write_text("[]")
    with pytest.raises((ValueError, TypeError)):
        Peers.from_file("chat", tmp_path / "trust.json")


def test_the_users_token_does_not_show() -> None:
    by = OnBehalfOf(UserId(UUID(int=1)), "request-77", "the-users-token", UUID(int=2))
    assert "the-users-token" not in repr(by)
