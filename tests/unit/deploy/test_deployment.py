"""The secrets of a deployment are made once, each for the containers of one service."""

import hashlib
import json
import re
import stat
from base64 import b64decode
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.companion import engine_users
from deploy.companion.data_dir import replace_private
from deploy.companion.deployment import DeployedIdentities, Deployment, Hosts
from deploy.companion.errors import CompanionError
from deploy.companion.programs import SERVICES
from shared.identity import Peers, ServiceIdentity


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = Deployment(tmp_path_factory.mktemp("deployment") / "secrets")
    deployment.create(Hosts())
    return deployment


def text_of(deployment: Deployment, name: str) -> str:
    return (deployment.root / name).read_text()


def password_at(deployment: Deployment, name: str) -> str:
    return urlsplit(text_of(deployment, name)).password or ""


def test_there_is_what_belongs_there_and_nothing_else(made: Deployment) -> None:
    found = {path for path in made.root.rglob("*") if path.is_file()}
    assert found == set(made.files())
    assert list(made.troubles()) == []


def test_only_their_owner_can_read_them(made: Deployment) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in made.files()}
    assert modes == {0o600}
    folders = [path for path in (made.root, *made.root.rglob("*")) if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_they_are_never_made_twice(made: Deployment) -> None:
    before = {path: path.read_bytes() for path in made.files()}
    with pytest.raises(CompanionError, match="in use already"):
        made.create(Hosts())
    assert {path: path.read_bytes() for path in made.files()} == before


def test_services_know_each_other_by_them(made: Deployment) -> None:
    for service in SERVICES:
        identity = ServiceIdentity.from_file(service, made.root / service / "identity.pem")
        for other in set(SERVICES) - {service}:
            peers = Peers.from_file(other, made.root / other / "identities.json")
            assert peers.service_of(identity.token_for(other)) == service


def test_no_password_stands_where_an_engine_reads(made: Deployment) -> None:
    read_by_engines = "".join(
        text_of(made, name)
        for name in ("postgres/init.sql", "valkey/users.acl", "rabbitmq/definitions.json")
    )
    for service in (*SERVICES, "operator"):
        for file in ("database_url", "cache_url", "broker_url"):
            password = password_at(made, f"{service}/{file}")
            assert len(password) >= 32
            assert password not in read_by_engines


def test_a_service_owns_its_database_and_gets_to_no_other(made: Deployment) -> None:
    sql = text_of(made, "postgres/init.sql")
    for service in SERVICES:
        role = f"companion_{service}"
        assert urlsplit(text_of(made, f"{service}/database_url")).username == role
        assert f"create database {role} owner {role};" in sql
        assert f"revoke all on database {role} from public;" in sql
    assert "superuser" not in re.sub(r"^--.*$", "", sql, flags=re.MULTILINE)
    assert "createdb" not in sql


def test_postgres_recognises_the_passwords(made: Deployment) -> None:
    sql = text_of(made, "postgres/init.sql")
    for service in SERVICES:
        found = re.search(rf"create role companion_{service} login password '(\S+)';", sql)
        assert found is not None
        salt = b64decode(found[1].split("$")[1].split(":")[1])
        password = password_at(made, f"{service}/database_url")
        assert engine_users.scram_verifier(password, salt) == found[1]


def test_a_scram_verifier_is_as_the_standard_has_it() -> None:
    # RFC 7677's example: user "user", password "pencil".
    salt = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert engine_users.scram_verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_valkey_knows_each_service_and_nobody_else(made: Deployment) -> None:
    users = {line.split()[1]: line for line in text_of(made, "valkey/users.acl").splitlines()}
    assert set(users) == {"default", "health", "operator", *SERVICES}
    assert " off " in users["default"]
    assert users["health"].endswith("-@all +ping")
    for service in SERVICES:
        digest = hashlib.sha256(password_at(made, f"{service}/cache_url").encode()).hexdigest()
        assert f" #{digest} " in users[service]
        # One of them shows how full Valkey is; `INFO` tells of no key.
        more = " +info" if service == "auth" else ""
        assert users[service].endswith(f"+@all -@admin -@dangerous{more}")
        assert " ~* " not in users[service]


def test_rabbitmq_lets_a_service_touch_its_own_queues_alone(made: Deployment) -> None:
    definitions = json.loads(text_of(made, "rabbitmq/definitions.json"))
    hashes = {user["name"]: b64decode(user["password_hash"]) for user in definitions["users"]}
    for service in SERVICES:
        salt = hashes[service][:4]
        password = password_at(made, f"{service}/broker_url").encode()
        assert hashes[service] == salt + hashlib.sha256(salt + password).digest()
    rights = {one["user"]: one for one in definitions["permissions"]}
    for right in ("configure", "write", "read"):
        allowed = re.compile(rights["chat"][right])
        for name in ("companion.events", "companion.dead", "chat.keys.free", "chat.keys.free.dead"):
            assert allowed.match(name)
        for name in ("billing.usage.free", "amq.default", "companion.eventsx", "chatter", ""):
            assert not allowed.match(name)
    assert {user["name"]: user["tags"] for user in definitions["users"]} == {
        **{service: [] for service in SERVICES},
        "operator": ["administrator"],
    }


def test_what_is_wrong_is_told_by_name(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "secrets")
    deployment.create(Hosts())
    (deployment.root / "keyvault" / "keyring.json").unlink()
    (deployment.root / "auth" / "broker_url").write_text("")
    (deployment.root / "chat" / "identity.pem").chmod(0o644)
    troubles = list(deployment.troubles(owner=deployment.root.stat().st_uid))
    assert len(troubles) == 3
    assert any("keyring.json is missing" in trouble for trouble in troubles)
    assert any("broker_url is empty" in trouble for trouble in troubles)
    assert any("identity.pem can be read by others" in trouble for trouble in troubles)
    assert len(list(deployment.troubles(owner=4711))) >= len(deployment.files()) - 1


def test_after_an_exchange_of_logins_the_engines_files_have_the_new_ones_alone(
    tmp_path: Path,
) -> None:
    """A cluster that is made by them after a restore takes what services bring, and no more."""
    deployment = Deployment(tmp_path / "secrets")
    deployment.create(Hosts())
    old = {file: password_at(deployment, f"chat/{file}") for file in ("cache_url", "broker_url")}
    old_verifier = re.search(r"companion_chat login password '(\S+)'", engines_files(deployment))
    assert old_verifier is not None
    for file, url in {
        "database_url": "postgresql://companion_chat_b:NEW%2D1@db.internal:5432?sslmode=verify-full",
        "cache_url": "rediss://chat:NEW-2@cache.internal:6379/0",
        "broker_url": "amqps://chat-b:NEW-3@broker.internal:5671/companion",
    }.items():
        replace_private(deployment.root / "chat" / file, f"{url}\n")
    told = [trouble for trouble in deployment.troubles() if "companion deployment users" in trouble]
    assert len(told) == 3
    assert all("the login of chat/" in trouble for trouble in told)

    deployment.tell_engines()

    assert list(deployment.troubles()) == []
    now = engines_files(deployment)
    assert old_verifier[1] not in now
    assert "create role companion_chat nologin;" in now
    assert 'create role "companion_chat_b" login password' in now
    assert "create database companion_chat owner companion_chat;" in now
    assert hashlib.sha256(old["cache_url"].encode()).hexdigest() not in now
    assert f"user chat on #{hashlib.sha256(b'NEW-2').hexdigest()} " in now
    definitions = json.loads(text_of(deployment, "rabbitmq/definitions.json"))
    names = {"chat-b", "operator", *SERVICES} - {"chat"}
    assert {user["name"] for user in definitions["users"]} == names
    (rights,) = (one for one in definitions["permissions"] if one["user"] == "chat-b")
    assert re.match(rights["read"], "chat.keys.free")
    assert not re.match(rights["read"], "chat-b.keys.free")


def test_rights_at_valkey_that_a_release_before_did_not_give_are_told(tmp_path: Path) -> None:
    """The file was made once; a service of this release may need more than it gives."""
    deployment = Deployment(tmp_path / "secrets")
    deployment.create(Hosts())
    path = deployment.root / "valkey" / "users.acl"
    newest = path.read_text()
    replace_private(path, newest.replace(" +info", "").replace("&companion.* &chat.*", "&chat.*"))

    told = list(deployment.troubles())

    assert len(told) == 2
    assert "does not give auth what this release needs, +info:" in told[0]
    assert "does not give chat what this release needs, &companion.*:" in told[1]
    # What somebody has given them beyond that is theirs to know.
    replace_private(path, newest.replace(" +info", " +info +client|list"))
    assert list(deployment.troubles()) == []


def engines_files(deployment: Deployment) -> str:
    names = ("postgres/init.sql", "valkey/users.acl", "rabbitmq/definitions.json")
    return "".join(text_of(deployment, name) for name in names)


@pytest.mark.parametrize(
    "url", ["", "postgresql://db", 'postgresql://a"b:x@db', "postgresql://a@db"]
)
def test_a_url_that_names_no_login_is_told_and_changes_nothing(tmp_path: Path, url: str) -> None:
    deployment = Deployment(tmp_path / "secrets")
    deployment.create(Hosts())
    before = engines_files(deployment)
    (deployment.root / "chat" / "database_url").write_text(url)
    with pytest.raises(CompanionError, match="chat/database_url") as refused:
        deployment.tell_engines()
    assert not url or url not in str(refused.value)
    assert engines_files(deployment) == before


def test_what_an_engine_reads_and_cannot_be_understood_is_told(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "secrets")
    deployment.create(Hosts())
    (deployment.root / "rabbitmq" / "definitions.json").write_text("{}")
    (deployment.root / "valkey" / "users.acl").write_text("user chat on >plain ~*\n")
    assert len(list(deployment.troubles())) == 2 * len((*SERVICES, "operator"))


def test_identities_are_exchanged_where_each_container_sees_them(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "secrets")
    deployment.create(Hosts())
    assert DeployedIdentities.is_at(deployment.root)
    before = text_of(deployment, "chat/identity.pem")
    DeployedIdentities(deployment.root).rotate(["chat"], pause_seconds=0)
    assert text_of(deployment, "chat/identity.pem") != before
    identity = ServiceIdentity.from_file("chat", deployment.root / "chat" / "identity.pem")
    for other in set(SERVICES) - {"chat"}:
        peers = Peers.from_file(other, deployment.root / other / "identities.json")
        assert peers.service_of(identity.token_for(other)) == "chat"
    assert list(deployment.troubles()) == []
