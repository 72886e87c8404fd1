"""Where a code may be sent: exactly where the client said, and nowhere near it."""

from __future__ import annotations

import pytest

from services.auth.domain.errors import InvalidClientName, InvalidRedirectUri
from services.auth.domain.oauth_client import OAuthClient, RedirectUri, is_client_id
from tests.support.auth import NOON
from tests.support.auth_oauth import CALLBACK

GOOD = [
    CALLBACK,
    "https://app.example/cb",
    "https://app.example:8443/cb?tenant=a%20b",
    "https://app.example/",
    "https://192.0.2.7/cb",
    "http://127.0.0.1/cb",
    "http://127.0.0.1:4567/cb",
    "http://[::1]/cb",
]
BAD = [
    "",
    "/cb",
    "app.example/cb",
    "//app.example/cb",
    "http://app.example/cb",
    "http://localhost/cb",
    "http://127.0.0.1.evil.example/cb",
    "http://2130706433/cb",
    "http://0.0.0.0/cb",
    "chrome-extension://abcdef/cb",
    "com.example.app:/cb",
    "javascript:alert(1)//https://app.example/",
    "data:text/html,hi",
    "file:///etc/passwd",
    "HTTPS://app.example/cb",
    "https://App.example/cb",
    "https://app.example/cb#fragment",
    "https://app.example/cb#",
    "https://app.example/cb?",
    "https://user@app.example/cb",
    "https://user:word@app.example/cb",
    "https://@app.example/cb",
    "https://app.example:/cb",
    "https://app.example:0443/cb",
    "https://app.example:99999/cb",
    "https://app.example:x/cb",
    "https://app.example.:443/cb",
    "https://*.example/cb",
    "https://app.example/*",
    "https://app.example",
    "https://app.example?x=1",
    "https:///cb",
    "https:/app.example/cb",
    "https:\\\\app.example\\cb",
    "https://app.example\\@evil.example/cb",
    "https://app.example/a/../cb",
    "https://app.example/./cb",
    "https://app.example/cb ",
    " https://app.example/cb",
    "https://app.example/c b",
    "https://app.example/\ncb",
    "https://app.example/\x00cb",
    "https://app.example/'cb",
    'https://app.example/"cb',
    "https://app.example;script-src *;/cb",
    "https://äpp.example/cb",
    "https://[::1/cb",
    "https://app.example/" + "a" * 1000,
]
# What somebody might ask for who wants a code of the client that has registered the first.
TRICKS = [
    ("https://app.example/cb", "https://app.example/cb/"),
    ("https://app.example/cb", "https://app.example/cb/more"),
    ("https://app.example/cb", "https://app.example/cbx"),
    ("https://app.example/cb", "https://app.example/c"),
    ("https://app.example/cb", "https://app.example/CB"),
    ("https://app.example/cb", "https://app.example/cb?x=1"),
    ("https://app.example/cb", "https://app.example/cb#x"),
    ("https://app.example/cb", "https://app.example//cb"),
    ("https://app.example/cb", "https://app.example/%63b"),
    ("https://app.example/cb", "https://app.example/cb%2f..%2fevil"),
    ("https://app.example/cb", "https://app.example/cb/../evil"),
    ("https://app.example/cb", "https://app.example:443/cb"),
    ("https://app.example/cb", "https://app.example:8443/cb"),
    ("https://app.example/cb", "https://APP.example/cb"),
    ("https://app.example/cb", "http://app.example/cb"),
    ("https://app.example/cb", "https://app.example.evil.example/cb"),
    ("https://app.example/cb", "https://evil.example/https://app.example/cb"),
    ("https://app.example/cb", "https://app.example@evil.example/cb"),
    ("https://app.example/cb", "https://evil.example\\@app.example/cb"),
    ("https://app.example/cb", "//app.example/cb"),
    ("https://app.example/cb", ""),
    ("http://127.0.0.1/cb", "http://127.0.0.1:8080/cb/"),
    ("http://127.0.0.1/cb", "http://127.0.0.1:8080/cb?x=1"),
    ("http://127.0.0.1/cb", "http://127.0.0.1:8080/CB"),
    ("http://127.0.0.1/cb", "http://127.0.0.2:8080/cb"),
    ("http://127.0.0.1/cb", "http://[::1]:8080/cb"),
    ("http://127.0.0.1/cb", "http://localhost:8080/cb"),
    ("http://127.0.0.1/cb", "https://127.0.0.1:8080/cb"),
    ("http://127.0.0.1/cb", "http://127.0.0.1:8080@evil.example/cb"),
    ("http://127.0.0.1/cb", "http://user@127.0.0.1:8080/cb"),
    ("http://127.0.0.1/cb", "http://127.0.0.1:99999/cb"),
    ("http://127.0.0.1/cb", "http://127.0.0.1:/cb"),
    ("http://127.0.0.1/cb", "http://127.1:8080/cb"),
]


def a_client(*uris: str) -> OAuthClient:
    return OAuthClient.registered("An extension", uris or (CALLBACK,), NOON)


@pytest.mark.parametrize("uri", GOOD)
def test_https_and_loopback_can_be_registered(uri: str) -> None:
    assert a_client(uri).may_return_to(uri)


@pytest.mark.parametrize("uri", BAD)
def test_anything_else_can_not(uri: str) -> None:
    with pytest.raises(InvalidRedirectUri):
        a_client(uri)


@pytest.mark.parametrize(("registered", "asked"), TRICKS)
def test_only_the_registered_address_is_sent_a_code(registered: str, asked: str) -> None:
    assert not a_client(registered).may_return_to(asked)


@pytest.mark.parametrize("registered", ["http://127.0.0.1/cb", "http://127.0.0.1:1/cb"])
def test_on_loopback_the_port_may_differ(registered: str) -> None:
    client = a_client(registered)
    for asked in ("http://127.0.0.1/cb", "http://127.0.0.1:50123/cb"):
        assert client.may_return_to(asked)


def test_ids_are_not_guessable_and_known_by_their_form() -> None:
    ids = {a_client().client_id for _ in range(50)}
    assert len(ids) == 50
    assert all(is_client_id(id_) for id_ in ids)
    assert not any(is_client_id(text) for text in ("", "A" * 24, "a" * 23, "a" * 24 + "\n", "é"))


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "\u202eevil", "x" * 101])
def test_a_name_is_one_line_to_be_read(name: str) -> None:
    with pytest.raises(InvalidClientName):
        OAuthClient.registered(name, [CALLBACK], NOON)


def test_a_client_has_some_addresses_but_not_any_number() -> None:
    for uris in ([], [f"https://app.example/{n}" for n in range(11)]):
        with pytest.raises(InvalidRedirectUri):
            OAuthClient.registered("An extension", uris, NOON)
    twice = OAuthClient.registered("An extension", [CALLBACK, CALLBACK], NOON)
    assert twice.redirect_uris == (RedirectUri(CALLBACK),)
