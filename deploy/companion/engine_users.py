"""Who may do what at PostgreSQL, Valkey and RabbitMQ: a user for each service, and its rights.

What the engines read holds hashes alone; the passwords stand in the services' URLs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import field
from urllib.parse import unquote, urlsplit

from deploy.companion.databases import database_name
from deploy.companion.engines.postgres import READERS
from deploy.companion.programs import SERVICES
from shared.messaging.broker import DEAD_EXCHANGE_NAME, EXCHANGE_NAME
from shared.values import dataclass

VHOST = "companion"
OPERATOR = "operator"

# Of `shared/limits`, `shared/news` and each service's storage. `%R~` only reads; a script needs to
# be allowed to write each key that it is given, also where it only reads it.
_COUNTED = "~tier:* ~limit:* ~reservation:*"
_VALKEY_RIGHTS: Mapping[str, str] = {
    "auth": "~companion:* ~tier:* &companion.*",
    "keyvault": "%R~companion:* &companion.*",
    "chat": f"%R~companion:* {_COUNTED} ~turn:* ~turn.wake:* ~thoughts:* &companion.* &chat.*",
    "voice": f"%R~companion:* {_COUNTED} &companion.* &voice.*",
    "billing": f"%R~companion:* {_COUNTED} &companion.*",
}
# What its web process shows of Valkey's memory (docs/metrics.md). Whoever may ask is told of no key
# and no client.
_MAY_ASK = "auth"
_SCRAM_ROUNDS = 4096
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")  # of a user, plain to all three engines


@dataclass(frozen=True, slots=True)
class Login:
    """As whom a service comes to an engine."""

    name: str
    password: str = field(repr=False)

    @classmethod
    def in_url(cls, url: str) -> Login:
        """The one that a service uses. Raises ValueError, which does not quote it."""
        parts = urlsplit(url.strip())
        name, password = unquote(parts.username or ""), unquote(parts.password or "")
        if not (_NAME.match(name) and password):
            raise ValueError("no user of a plain name with a password")
        return cls(name, password)


@dataclass(frozen=True, slots=True)
class Users:
    """The logins, by the name of the service (or `operator`)."""

    postgres: Mapping[str, Login]
    valkey: Mapping[str, Login]
    rabbitmq: Mapping[str, Login]


def role_name(service: str) -> str:
    """The PostgreSQL role of a service; it owns the database of the same name."""
    return database_name(service)


def postgres_init(users: Users) -> str:
    """What a new cluster runs: a role for each service, and its database, which is closed to all
    others."""
    return "\n".join(_sql(users)) + "\n"


def _sql(users: Users) -> Iterator[str]:
    yield "-- Run once, by the superuser, when the cluster is made."
    yield "revoke connect on database postgres, template1 from public;"
    # Billing's migrations grant it their views, and may not make it.
    yield f"create role {READERS} nologin;"
    for service in SERVICES:
        name, login = role_name(service), users.postgres[service]
        can_log_in = f"login password '{scram_verifier(login.password)}'"
        if login.name == name:
            yield f"create role {name} {can_log_in};"
        else:
            # One of two logins in turn (docs/rotation.md): all that it makes is the role's.
            yield f"create role {name} nologin;"
            yield f'create role "{login.name}" {can_log_in} in role {name};'
            yield f'alter role "{login.name}" set role {name};'
        yield f"create database {name} owner {name};"
        yield f"revoke all on database {name} from public;"
    # Readers get to the one database that has something for them.
    yield f"grant connect on database {role_name('billing')} to {READERS};"


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What PostgreSQL keeps of a password, so that no statement needs to hold it (RFC 5803)."""
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ROUNDS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    b64_salt, b64_stored, b64_server = (
        b64encode(part).decode() for part in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${_SCRAM_ROUNDS}:{b64_salt}${b64_stored}:{b64_server}"


def postgres_knows(init: str, login: Login) -> bool:
    """Whether a cluster that is made by it will take this login."""
    found = re.search(rf"""^create role "?{login.name}"? login password '(\S+)'""", init, re.M)
    if found is None:
        return False
    salt = b64decode(found[1].split("$")[1].partition(":")[2])
    return scram_verifier(login.password, salt) == found[1]


def valkey_acl(users: Users) -> str:
    """Valkey's users: each service sees its own keys, and nobody without a password anything."""
    lines = [
        "user default off resetpass resetkeys resetchannels -@all",
        # For the container's health check; it may do nothing else.
        "user health on nopass resetkeys resetchannels -@all +ping",
        *(
            f"{_valkey_user(users.valkey[name])} resetkeys resetchannels {_rights_at_valkey(name)}"
            for name in SERVICES
        ),
        f"{_valkey_user(users.valkey[OPERATOR])} {_rights_at_valkey(OPERATOR)}",
    ]
    return "\n".join(lines) + "\n"


def valkey_knows(acl: str, login: Login) -> bool:
    """Whether a Valkey that starts with it takes this login, and no other of that name."""
    rights = re.search(rf"^user {login.name} .*", acl, re.M)
    return rights is not None and re.findall(r" [#>]\S+", rights[0]) == [
        f" #{_sha256(login.password)}"
    ]


def valkey_lacks(acl: str, name: str, login: Login) -> list[str]:
    """The rights that this release gives a service at Valkey and the file does not; none where the
    file does not know the login at all."""
    if not valkey_knows(acl, login):
        return []
    (rights,) = re.findall(rf"^user {login.name} .*", acl, re.M)[:1]
    return [right for right in _rights_at_valkey(name).split() if right not in rights.split()]


def _rights_at_valkey(name: str) -> str:
    if name == OPERATOR:
        return "~* &* +@all"
    may_ask = " +info" if name == _MAY_ASK else ""
    return f"{_VALKEY_RIGHTS[name]} -@all +@all -@admin -@dangerous{may_ask}"


def _valkey_user(login: Login) -> str:
    return f"user {login.name} on #{_sha256(login.password)}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rabbitmq_definitions(users: Users) -> str:
    """RabbitMQ's virtual host, its users and what each may touch: the two exchanges of all, and
    the queues that begin with the service's name."""
    names = (*SERVICES, OPERATOR)
    return json.dumps(
        {
            "vhosts": [{"name": VHOST, "default_queue_type": "quorum"}],
            "users": [
                {
                    "name": users.rabbitmq[name].name,
                    "password_hash": rabbitmq_password_hash(users.rabbitmq[name].password),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": ["administrator"] if name == OPERATOR else [],
                    "limits": {},
                }
                for name in names
            ],
            "permissions": [
                {"user": users.rabbitmq[name].name, "vhost": VHOST, **_rights_at_rabbitmq(name)}
                for name in names
            ],
        },
        indent=2,
    )


def rabbitmq_knows(definitions: str, login: Login) -> bool:
    """Whether a RabbitMQ that reads them takes this login."""
    users = json.loads(definitions)["users"]
    known = {user["name"]: str(user["password_hash"]) for user in users}.get(login.name, "")
    return rabbitmq_password_hash(login.password, b64decode(known)[:4]) == known


def _rights_at_rabbitmq(name: str) -> Mapping[str, str]:
    if name == OPERATOR:
        return dict.fromkeys(("configure", "write", "read"), ".*")
    exchanges = "|".join(text.replace(".", r"\.") for text in (EXCHANGE_NAME, DEAD_EXCHANGE_NAME))
    # Declaring an exchange asks for `configure` also where it is there already, and binding a queue
    # to it for `read`.
    return dict.fromkeys(("configure", "write", "read"), rf"^({exchanges}|{name}\..*)$")


def rabbitmq_password_hash(password: str, salt: bytes | None = None) -> str:
    """What RabbitMQ keeps of a password."""
    salt = secrets.token_bytes(4) if salt is None else salt
    return b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
