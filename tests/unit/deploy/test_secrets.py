"""Secrets are made once, for a new data directory, and for the eyes of one user."""

import base64
import json
import stat
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from deploy.companion.data_dir import DataDir, replace_private, write_private
from deploy.companion.errors import CompanionError
from deploy.companion.identities import create_identities, missing_identities
from deploy.companion.keyring import create_keyring_file
from deploy.companion.prepare import create_secrets, lost_secrets, read_passwords
from deploy.companion.programs import SERVICES
from shared.identity import Peers, ServiceIdentity


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "data")
    data.create()
    return data


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_only_the_owner_can_read_them(data: DataDir) -> None:
    create_secrets(data.root)
    files = [path for path in data.secrets.rglob("*") if path.is_file()]
    assert len(files) == 5 + len(SERVICES) + 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(data.secrets.stat().st_mode) == 0o700


def test_they_are_never_made_twice(data: DataDir) -> None:
    create_secrets(data.root)
    before = contents(data.secrets)
    with pytest.raises(CompanionError, match="in use already"):
        create_secrets(data.root)
    assert contents(data.secrets) == before


def test_a_data_directory_with_a_database_gets_none(data: DataDir) -> None:
    data.postgres.mkdir()
    (data.postgres / "PG_VERSION").write_text("18\n")
    with pytest.raises(CompanionError):
        create_secrets(data.root)
    assert not data.secrets.exists()


def test_a_draft_that_was_interrupted_is_started_anew(data: DataDir) -> None:
    (data.root / "new-secrets" / "secrets").mkdir(parents=True)
    (data.root / "new-secrets" / "secrets" / "passwords.json").write_text("{}")
    create_secrets(data.root)
    assert read_passwords(data).valkey
    assert not (data.root / "new-secrets").exists()


def test_passwords_differ_and_need_no_quoting(data: DataDir) -> None:
    create_secrets(data.root)
    found = read_passwords(data)
    words = {found.postgres_superuser, found.postgres_role, found.valkey}
    assert len(words) == 3
    assert all(word.replace("-", "").replace("_", "").isalnum() for word in words)
    assert found.valkey not in repr(data)


def test_a_keyring_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    create_keyring_file(path)
    before = path.read_bytes()
    with pytest.raises(CompanionError, match="already"):
        create_keyring_file(path)
    assert path.read_bytes() == before
    path.write_text("")
    with pytest.raises(CompanionError):
        create_keyring_file(path)


def test_a_keyring_holds_two_keys_of_32_bytes(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    create_keyring_file(path)
    keyring = json.loads(path.read_text())
    sealing, fingerprint = keyring["keys"][0], keyring["fingerprint_keys"][0]
    assert (keyring["active"], sealing["version"], sealing["state"]) == (1, 1, "active")
    assert fingerprint["version"] == 1
    keys = {base64.b64decode(sealing["key"]), base64.b64decode(fingerprint["key"])}
    assert [len(key) for key in keys] == [32, 32]
    assert len(keyring["environment"]) >= 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_lost_keyring_is_told_and_not_replaced(data: DataDir) -> None:
    create_secrets(data.root)
    assert lost_secrets(data) == []
    data.keyring.unlink()
    [warning] = lost_secrets(data)
    assert "keyvault stays sealed" in warning
    assert not data.keyring.exists()


def test_no_keyring_for_an_outside_server_that_holds_sealed_keys(data: DataDir) -> None:
    create_secrets(data.root, with_keyring=False)
    assert not data.keyring.exists()
    assert lost_secrets(data)


def test_services_know_each_other(data: DataDir) -> None:
    create_secrets(data.root)
    chat = ServiceIdentity.from_file("chat", data.identity_key("chat"))
    peers = Peers.from_file("keyvault", data.trusted_identities)
    assert peers.service_of(chat.token_for("keyvault")) == "chat"


def test_the_trust_file_holds_no_private_key(data: DataDir) -> None:
    create_secrets(data.root)
    keys = json.loads(data.trusted_identities.read_text())["keys"]
    assert [key["kid"].partition(".")[0] for key in keys] == list(SERVICES)
    assert all(len(key["kid"].partition(".")[2]) == 16 for key in keys)
    assert not any("d" in key for key in keys)


def test_a_new_service_gets_an_identity_and_the_others_keep_theirs(data: DataDir) -> None:
    create_secrets(data.root)
    before = data.identity_key("chat").read_bytes()
    assert missing_identities(data, [*SERVICES, "search"]) == ["search"]
    create_identities(data, ["search"])
    assert missing_identities(data, [*SERVICES, "search"]) == []
    assert data.identity_key("chat").read_bytes() == before


def test_the_signing_key_is_named_by_its_thumbprint(data: DataDir) -> None:
    create_secrets(data.root)
    entries = json.loads(data.signing_keys.read_text())["keys"]
    assert [entry["state"] for entry in entries] == ["active", "standby"]
    for entry in entries:
        assert (entry["alg"], entry["use"]) == ("ES256", "sig")
        key = ECKey.import_key(entry)
        assert key.is_private
        assert entry["kid"] == key.thumbprint()


def test_a_private_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    write_private(tmp_path / "a", "x")
    replace_private(tmp_path / "b", "y")
    replace_private(tmp_path / "b", "z")
    assert (tmp_path / "b").read_text() == "z"
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "a", "other")
