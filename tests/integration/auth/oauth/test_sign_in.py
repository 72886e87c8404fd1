"""Signing in by the code flow, from the metadata to the tokens, in one step and in two."""

from __future__ import annotations

import html
import json
import re
from base64 import urlsafe_b64decode
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from oauthlib.oauth2 import InvalidGrantError, WebApplicationClient

from services.auth.actions.authorize_client import AuthorizeClient
from services.auth.domain.oauth_client import OAuthClient
from shared.errors import DependencyUnavailable
from shared.scopes import SIGN_IN_SCOPES
from tests.integration.auth.oauth.conftest import (
    EVIL,
    FORM,
    HIDDEN_FIELDS,
    Visitor,
    returned,
    shown_again,
    with_authenticator,
)
from tests.support.auth import PASSWORD, RunningAuth
from tests.support.auth_oauth import CALLBACK, VERIFIER, challenge_of


async def test_an_extension_signs_a_person_in(auth: RunningAuth, visitor: Visitor) -> None:
    account = await auth.account()
    assert (await visitor.open()).status_code == 200
    answer = await visitor.submit(login=account.email, password=account.password)
    assert answer.status_code == 303
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    back = returned(answer)
    assert (back["state"], back["iss"]) == ("a state", auth.settings.token_issuer)
    tokens = await visitor.token(back["code"])
    assert tokens.status_code == 200
    assert (tokens.headers["cache-control"], tokens.headers["pragma"]) == ("no-store", "no-cache")
    body = tokens.json()
    assert set(body) == {*("access_token", "token_type", "expires_in", "refresh_token", "scope")}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert set(body["scope"].split()) == SIGN_IN_SCOPES
    me = await auth.me(body["access_token"])
    assert me.json()["id"] == str(account.id)


async def test_an_oauth_library_can_do_it(
    auth: RunningAuth, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It does not know that nobody listens on loopback.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    account = await auth.account()
    metadata = (await auth.client.get("/.well-known/oauth-authorization-server")).json()
    library = WebApplicationClient(visitor.client.client_id)

    async def post(endpoint: str, body: str) -> str:
        headers = {"content-type": FORM, "accept": "application/json"}
        answer = await auth.client.post(metadata[endpoint], content=body, headers=headers)
        assert answer.headers["content-type"] == "application/json"
        return answer.text

    visitor._seen(
        await auth.client.get(
            library.prepare_request_uri(
                metadata["authorization_endpoint"],
                CALLBACK,
                scope=["chat", "account"],
                state="one of its own",
                code_challenge=challenge_of(),
                code_challenge_method="S256",
            )
        )
    )
    back = await visitor.submit(login=account.email, password=account.password)
    library.parse_request_uri_response(back.headers["location"], state="one of its own")
    body = library.prepare_request_body(redirect_uri=CALLBACK, code_verifier=VERIFIER)
    tokens = library.parse_request_body_response(await post("token_endpoint", body))
    assert (await auth.me(tokens["access_token"])).status_code == 200
    body = library.prepare_refresh_body(client_id=visitor.client.client_id)
    newer = library.parse_request_body_response(await post("token_endpoint", body))
    assert newer["refresh_token"] != tokens["refresh_token"]
    used = library.prepare_request_body(
        code="A" * 43, redirect_uri=CALLBACK, code_verifier=VERIFIER
    )
    refusal = await post("token_endpoint", used)
    with pytest.raises(InvalidGrantError):
        library.parse_request_body_response(refusal)
    _, _, body = library.prepare_token_revocation_request(
        "https://auth.example/", newer["refresh_token"], client_id=visitor.client.client_id
    )
    await post("revocation_endpoint", body)
    assert (await visitor.refresh(newer["refresh_token"])).json()["error"] == "invalid_grant"


async def test_the_metadata_says_what_there_is(auth: RunningAuth) -> None:
    answer = await auth.client.get("/.well-known/oauth-authorization-server")
    document = answer.json()
    base = auth.settings.public_url
    assert document == {
        "issuer": auth.settings.token_issuer,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": sorted(SIGN_IN_SCOPES),
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["en"],
    }
    # And where an issuer with that path has it.
    inserted = await auth.client.get("/.well-known/oauth-authorization-server/auth")
    assert inserted.json() == document


def register_link(text: str) -> str:
    found = re.search(r'<a href="(/oauth/register[^"]*)">', text)
    assert found is not None
    return html.unescape(found[1])


async def test_who_has_no_account_makes_one_and_comes_back(
    auth: RunningAuth, visitor: Visitor
) -> None:
    login_page = await visitor.open(scope="account chat", state=EVIL)
    visitor._seen(await visitor._send("GET", register_link(login_page.text)))
    name = f"new{uuid4().hex[:12]}"
    typed = {"email": f"{name}@example.com", "username": name, "password": "short"}
    again = visitor._seen(await visitor.register(**typed))
    assert "12" in shown_again(again)
    assert f'value="{name}@example.com"' in again.text
    assert "short" not in again.text
    made = await visitor.register(**typed | {"password": PASSWORD})
    assert (made.status_code, 'role="status"' in made.text) == (200, True), made.text
    back = re.search('<a href="(/oauth/authorize[^"]*)">', made.text)
    assert back is not None
    visitor._seen(await visitor._send("GET", html.unescape(back[1])))
    answer = returned(await visitor.submit(login=name, password=PASSWORD))
    assert answer["state"] == EVIL
    assert (await visitor.token(answer["code"])).json()["scope"] == "account chat"


async def test_a_wrong_login_gets_one_answer(auth: RunningAuth, visitor: Visitor) -> None:
    account = await auth.account()
    await visitor.open()
    pages = []
    for login, password in (
        (account.username, "a wrong password"),
        ("nobody", PASSWORD),
        ("", ""),
        ("x" * 255, PASSWORD),
        (account.username, "x" * 257),
    ):
        answer = await visitor.submit(login=login, password=password)
        assert shown_again(answer).startswith("The login or the password is wrong")
        assert password not in answer.text or not password
        pages.append(re.sub(r'value="[^"]*"|autofocus', "", answer.text).replace(" >", ">"))
    assert set(pages) == {pages[0]}


async def test_after_too_many_guesses_the_page_says_when_to_come_back(visitor: Visitor) -> None:
    await visitor.open()
    for _ in range(8):
        answer = await visitor.submit(login="a-name-of-nobody", password="wrong")
    assert re.search(r"Come back in \d+ (minute|second)s?\.$", shown_again(answer))


async def test_trouble_of_ours_is_none_of_the_persons(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_parts: object) -> None:
        raise DependencyUnavailable("database")

    await visitor.open()
    monkeypatch.setattr(AuthorizeClient, "__call__", away)
    answer = await visitor.submit(login="somebody", password=PASSWORD)
    assert (answer.status_code, 'role="alert"' in answer.text) == (503, True)


async def test_a_second_factor_is_asked_for_in_a_second_step(
    auth: RunningAuth, visitor: Visitor
) -> None:
    account = await auth.account()
    code, *_ = await with_authenticator(auth, account)
    await visitor.open()
    asking = await visitor.submit(login=account.username, password=account.password)
    assert asking.status_code == 200
    assert re.search('id="otp"[^>]*autocomplete="one-time-code"', asking.text)
    assert account.username in asking.text
    assert account.password not in asking.text
    carried = visitor.hidden["first_step"]
    wrong = await visitor.submit(otp="000000")
    shown_again(wrong)
    assert visitor.hidden["first_step"] == carried
    done = await visitor.submit(otp=code)
    assert done.status_code == 303
    tokens = (await visitor.token(returned(done)["code"])).json()
    claims = tokens["access_token"].split(".")[1]
    assert json.loads(urlsafe_b64decode(claims + "=="))["amr"] == ["pwd", "recovery"]


async def test_the_second_step_is_this_browsers_and_no_way_around_the_first(
    auth: RunningAuth, visitor: Visitor, client: OAuthClient
) -> None:
    account = await auth.account()
    code, *_ = await with_authenticator(auth, account)
    await visitor.open()
    await visitor.submit(login=account.username, password=account.password)
    other = Visitor(auth, client)
    await other.open()
    for carried in (visitor.hidden["first_step"], "x", "A" * 200):
        answer = await other.submit(otp=code, first_step=carried)
        shown_again(answer)
        assert 'id="password"' in answer.text
    assert (await visitor.submit(otp=code)).status_code == 303, "the code was not used up"


async def test_cancelling_tells_the_client(visitor: Visitor) -> None:
    text = (await visitor.open()).text
    found = re.search(r'<a href="([^"]*)">Cancel</a>', text)
    assert found is not None
    back = urlsplit(html.unescape(found[1]))
    assert f"{back.scheme}://{back.netloc}{back.path}" == CALLBACK
    assert parse_qs(back.query)["error"] == ["access_denied"]


async def test_a_page_that_is_looked_at_changes_nothing(auth: RunningAuth) -> None:
    for path in ("verify-email?token=abc", "reset-password?token=abc"):
        answer = await auth.client.get(f"/oauth/{path}")
        assert answer.status_code == 200
        assert dict(HIDDEN_FIELDS.findall(answer.text))["token"] == "abc"
    without = await auth.client.get("/oauth/verify-email")
    assert "Code in the mail" in without.text
