"""Services exchange their keys while they run: files that change, keys that retire."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from joserfc.jwk import ECKey, RSAKey
from structlog.testing import capture_logs

from shared import watched_file
from shared.errors import Unauthenticated
from shared.identity import RETIRED_SECONDS, Peers, ServiceIdentity, key_id
from shared.watched_file import UnusableFile
from tests.support.tokens import identity_of, write_identities

Entry = dict[str, Any]


@pytest.fixture(autouse=True)
def looking_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "_LOOK_AGAIN_SECONDS", 0.0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_identities(tmp_path)
    return tmp_path


@pytest.fixture
def chat(directory: Path) -> ServiceIdentity:
    return identity_of(directory, "chat")


@pytest.fixture
def keyvault(directory: Path) -> Peers:
    return Peers.from_file("keyvault", directory / "trusted.json")


def public(service: str, key: ECKey, **more: Any) -> Entry:
    return {**key.as_dict(private=False), "kid": key_id(service, key), **more}


def trust(directory: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    path = directory / "trusted.json"
    keys = change(json.loads(path.read_text())["keys"])
    path.write_text(json.dumps({"keys": keys}))


def refused(peers: Peers, token: str) -> bool:
    try:
        peers.service_of(token)
    except Unauthenticated:
        return True
    return False


def test_a_key_is_named_after_its_service_and_itself(directory: Path) -> None:
    key = ECKey.import_key((directory / "chat.pem").read_text())
    assert key_id("chat", key) == f"chat.{key.thumbprint()[:16]}"


def test_both_keys_of_a_service_are_good_while_they_are_exchanged(
    directory: Path, chat: ServiceIdentity, keyvault: Peers
) -> None:
    before = chat.token_for("keyvault")
    new = ECKey.generate_key("P-256")
    trust(directory, lambda keys: [*keys, public("chat", new)])
    (directory / "chat.pem").write_bytes(new.as_pem(private=True))
    after = chat.token_for("keyvault")
    assert before.split(".")[0] != after.split(".")[0]
    assert [keyvault.service_of(token) for token in (before, after)] == ["chat", "chat"]


def test_a_retired_key_is_good_for_as_long_as_its_last_token(
    directory: Path, chat: ServiceIdentity, keyvault: Peers
) -> None:
    token = chat.token_for("keyvault")

    def retired(seconds_ago: int) -> None:
        at = int(time.time()) - seconds_ago
        trust(
            directory,
            lambda keys: [k | {"retired_at": at} if k["kid"][:4] == "chat" else k for k in keys],
        )

    retired(RETIRED_SECONDS - 5)
    assert not refused(keyvault, token)
    retired(RETIRED_SECONDS + 1)
    assert refused(keyvault, token)


def test_a_key_that_left_the_list_is_refused(
    directory: Path, chat: ServiceIdentity, keyvault: Peers
) -> None:
    token = chat.token_for("keyvault")
    assert not refused(keyvault, token)
    trust(directory, lambda keys: [key for key in keys if key["kid"][:4] != "chat"])
    assert refused(keyvault, token)


def test_a_key_listed_for_one_service_signs_for_no_other(directory: Path) -> None:
    new = ECKey.generate_key("P-256")
    trust(directory, lambda keys: [*keys, public("voice", new)])
    (directory / "chat.pem").write_bytes(new.as_pem(private=True))
    keyvault = Peers.from_file("keyvault", directory / "trusted.json")
    assert refused(keyvault, identity_of(directory, "chat").token_for("keyvault"))


def test_files_of_an_older_installation_still_work(directory: Path) -> None:
    """There, a key's id was its service's name."""
    trust(directory, lambda keys: [k | {"kid": k["kid"].partition(".")[0]} for k in keys])
    keyvault = Peers.from_file("keyvault", directory / "trusted.json")
    chat = identity_of(directory, "chat")
    assert keyvault.service_of(chat.token_for("keyvault")) == "chat"
    key = ECKey.import_key((directory / "chat.pem").read_text())
    older = chat.token_for("keyvault").split(".")
    assert older[0] != ""
    # A process that has not been restarted since signs under the old id.
    chat._key._content = ECKey.import_key(key.as_dict(private=True), {"kid": "chat"})
    assert keyvault.service_of(chat.token_for("keyvault")) == "chat"
    new = ECKey.generate_key("P-256")
    trust(directory, lambda keys: [*keys, public("chat", new)])
    (directory / "chat.pem").write_bytes(new.as_pem(private=True))
    assert keyvault.service_of(identity_of(directory, "chat").token_for("keyvault")) == "chat"


def spoiled(change: Callable[[list[Entry]], Any]) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        path = directory / "trusted.json"
        keys = json.loads(path.read_text())["keys"]
        path.write_text(json.dumps(change(keys)))

    return spoil


SPOILED = {
    "gone": lambda directory: (directory / "trusted.json").unlink(),
    "cut off": lambda directory: (directory / "trusted.json").write_text('{"keys": ['),
    "empty": spoiled(lambda _keys: {"keys": []}),
    "no set": spoiled(lambda keys: keys),
    "of numbers": spoiled(lambda _keys: {"keys": [5]}),
    "another's id": spoiled(lambda keys: {"keys": [keys[0] | {"kid": keys[1]["kid"]}, *keys[1:]]}),
    "no id": spoiled(lambda keys: {"keys": [keys[0] | {"kid": ""}, *keys[1:]]}),
    "a moment of text": spoiled(
        lambda keys: {"keys": [keys[0] | {"retired_at": "now"}, *keys[1:]]}
    ),
    "a damaged key": spoiled(
        lambda keys: {"keys": [keys[0] | {"x": keys[0]["y"], "kid": "auth"}, *keys[1:]]}
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_bad_list_is_refused_at_the_start_and_ignored_later(
    directory: Path, chat: ServiceIdentity, keyvault: Peers, how: str
) -> None:
    good = (directory / "trusted.json").read_text()
    SPOILED[how](directory)
    assert keyvault.service_of(chat.token_for("keyvault")) == "chat"
    with pytest.raises((OSError, ValueError)):
        Peers.from_file("keyvault", directory / "trusted.json")
    (directory / "trusted.json").write_text(good)
    assert keyvault.service_of(chat.token_for("keyvault")) == "chat"


@pytest.mark.parametrize(
    "pem",
    [
        None,
        "",
        "no key",
        ECKey.generate_key("P-256").as_pem(private=False).decode(),
        ECKey.generate_key("P-384").as_pem(private=True).decode(),
    ],
)
def test_a_bad_private_key_is_refused_at_the_start_and_ignored_later(
    directory: Path, chat: ServiceIdentity, keyvault: Peers, pem: str | None
) -> None:
    path = directory / "chat.pem"
    path.unlink() if pem is None else path.write_text(pem)
    assert keyvault.service_of(chat.token_for("keyvault")) == "chat"
    with pytest.raises((OSError, ValueError)):
        ServiceIdentity.from_file("chat", path)


def test_a_key_of_another_kind_leaves_the_last_good_one(
    directory: Path, chat: ServiceIdentity, keyvault: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_file, "log", structlog.get_logger())
    pem = RSAKey.generate_key(2048).as_pem(private=True)
    (directory / "chat.pem").write_bytes(pem)
    with capture_logs() as logs:
        assert keyvault.service_of(chat.token_for("keyvault")) == "chat"
    assert [(told["event"], told["reason"]) for told in logs] == [
        ("file_unusable", "not a private key of EC P-256")
    ]
    with pytest.raises(UnusableFile):
        identity_of(directory, "chat")
