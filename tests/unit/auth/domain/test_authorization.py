"""What a client may ask for, where the answer goes, and who may redeem a code."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from services.auth.domain.authorization import (
    Asked,
    AuthorizationCode,
    AuthorizationRequest,
    Redemption,
    ReturnAddress,
    hash_of_code,
    new_code,
    state_of,
)
from services.auth.domain.errors import OAuthRefused
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.pkce import CodeChallenge
from services.auth.domain.sign_in import Proof
from tests.support.auth import NOON, a_user
from tests.support.auth_oauth import CALLBACK, VERIFIER, asked, challenge_of, request_of

CLIENT = OAuthClient.registered("An extension", [CALLBACK], NOON)
ADDRESS = ReturnAddress(CLIENT, CALLBACK, "a state", "https://auth.example")

REFUSED = [
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": "code token"}, "unsupported_response_type"),
    ({"response_type": None}, "invalid_request"),
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge": ""}, "invalid_request"),
    ({"code_challenge": VERIFIER[:-1]}, "invalid_request"),
    ({"code_challenge": challenge_of() + "="}, "invalid_request"),
    ({"code_challenge": challenge_of()[:-1] + "\n"}, "invalid_request"),
    ({"code_challenge": "a" * 5000}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge_method": "s256"}, "invalid_request"),
    ({"scope": "everything"}, "invalid_scope"),
    ({"scope": "chat everything"}, "invalid_scope"),
    ({"scope": "chat  voice"}, "invalid_scope"),
    ({"scope": " "}, "invalid_scope"),
    ({"state": "a\nb"}, "invalid_request"),
    ({"state": "ä"}, "invalid_request"),
    ({"state": "x" * 1025}, "invalid_request"),
    ({"request": "eyJ"}, "invalid_request"),
    ({"request_uri": "https://evil.example/"}, "invalid_request"),
    ({"response_mode": "fragment"}, "invalid_request"),
]


def read(question: Asked) -> AuthorizationRequest:
    return AuthorizationRequest.read(question, ADDRESS)


def a_code(**parts: object) -> AuthorizationCode:
    made = AuthorizationCode.issued(
        new_code(),
        read(asked(CLIENT.client_id)),
        a_user(),
        Proof(NOON, frozenset({"pwd"})),
        NOON,
    )
    return replace(made, **parts)  # type: ignore[arg-type]


def shown(**parts: str) -> Redemption:
    good = Redemption(CLIENT.client_id, "the code", CALLBACK, VERIFIER)
    return replace(good, **parts)


@pytest.mark.parametrize(("parts", "error"), REFUSED)
def test_a_bad_request_is_refused_in_the_protocols_words(
    parts: dict[str, str | None], error: str
) -> None:
    with pytest.raises(OAuthRefused) as refused:
        read(asked(CLIENT.client_id, **parts))
    assert refused.value.error == error
    for value in parts.values():
        if value and len(value) > 5:
            assert value not in refused.value.message.replace("code_challenge_method", "")


@pytest.mark.parametrize("name", [*request_of(CLIENT.client_id), "scope", "request"])
def test_no_parameter_may_come_twice(name: str) -> None:
    pairs = [*request_of(CLIENT.client_id, scope="chat").items()]
    with pytest.raises(OAuthRefused):
        read(Asked.of([*pairs, (name, "again")]))


def test_unknown_parameters_are_ignored() -> None:
    read(asked(CLIENT.client_id, nonce="1", response_mode="query"))


def test_scopes_are_those_asked_for() -> None:
    assert read(asked(CLIENT.client_id)).scopes is None
    assert read(asked(CLIENT.client_id, scope="voice chat")).scopes == frozenset({"chat", "voice"})


def test_an_odd_state_is_not_sent_back() -> None:
    for state in ("a\nb", "x" * 1025):
        assert state_of(asked(CLIENT.client_id, state=state)) is None
    assert state_of(Asked.of([("state", "a"), ("state", "b")])) is None
    assert state_of(asked(CLIENT.client_id, state="a&code=b#c")) == "a&code=b#c"


@pytest.mark.parametrize("state", ["plain", "a&code=stolen", "#x", "https://evil.example/?a=b", ""])
def test_the_answer_stays_at_the_address_whatever_the_state(state: str) -> None:
    address = replace(ADDRESS, state=state, redirect_uri=f"{CALLBACK}?kept=1")
    for answer in (address.with_code("the code"), address.with_error(OAuthRefused("no"))):
        parts = urlsplit(answer)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == CALLBACK
        assert parts.fragment == ""
        values = parse_qs(parts.query, keep_blank_values=True)
        assert values["state"] == [state]
        assert values["kept"] == ["1"]
        assert values["iss"] == ["https://auth.example"]
        assert len(values.get("code", ["one"])) == 1


def test_a_code_is_redeemed_by_who_asked_for_it_in_time() -> None:
    assert a_code().is_met_by(shown(), NOON + timedelta(seconds=59))


@pytest.mark.parametrize(
    "parts",
    [
        {"client_id": "b" * 24},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": ""},
        {"verifier": ""},
        {"verifier": challenge_of()},
        {"verifier": VERIFIER[:-1] + "l"},
        {"verifier": VERIFIER + "k"},
    ],
)
def test_and_by_nobody_else(parts: dict[str, str]) -> None:
    assert not a_code().is_met_by(shown(**parts), NOON)


def test_a_code_lives_for_a_minute() -> None:
    assert not a_code().is_met_by(shown(), NOON + timedelta(seconds=60))


def test_a_code_dies_with_the_password_and_the_account() -> None:
    user, code = a_user(), a_code()
    assert code.is_still_of(user)
    assert not code.is_still_of(replace(user, password_changed_at=NOON + timedelta(seconds=1)))
    assert not code.is_still_of(replace(user, is_active=False))


@pytest.mark.parametrize(
    "text", ["", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "\n", "é" * 43]
)
def test_what_is_no_code_is_not_looked_up(text: str) -> None:
    assert hash_of_code(text) is None


def test_codes_differ_and_only_their_hash_is_kept() -> None:
    codes = {new_code() for _ in range(50)}
    assert len(codes) == 50
    assert all(hash_of_code(code) for code in codes)
    assert "code_hash" not in repr(a_code())


def test_the_example_of_rfc_7636() -> None:
    challenge = CodeChallenge("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
    assert challenge.is_met_by(VERIFIER)


@pytest.mark.parametrize("length", [0, 42, 129, 5000])
def test_a_verifier_has_43_to_128_characters(length: int) -> None:
    verifier = "v" * length
    assert not CodeChallenge(challenge_of(verifier)).is_met_by(verifier)


@pytest.mark.parametrize("odd", [" ", "+", "/", "=", "\x00", "é"])
def test_a_verifier_has_unreserved_characters_only(odd: str) -> None:
    verifier = "v" * 43 + odd
    assert not CodeChallenge(challenge_of(verifier)).is_met_by(verifier)
