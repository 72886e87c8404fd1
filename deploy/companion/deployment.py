"""All secrets of a deployment in containers: a folder for each service and each engine.

Each folder is mounted into the containers of that service alone. Made once, all or none; later a
missing one is reported and never replaced, because a new keyring or a new password would not open
what the old one closed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path

from deploy.companion import engine_users
from deploy.companion.data_dir import DataDir, replace_private, write_private
from deploy.companion.engines.postgres import SUPERUSER
from deploy.companion.errors import CompanionError
from deploy.companion.identities import Entry, Identities
from deploy.companion.prepare import create_secrets
from deploy.companion.programs import SERVICES
from shared.values import dataclass

URLS = ("database_url", "cache_url", "broker_url")
OWN_FILES: Mapping[str, Mapping[str, str]] = {
    "auth": {"AUTH_SIGNING_KEYS_FILE": "signing_keys.json"},
    "keyvault": {"KEYVAULT_KEYRING_FILE": "keyring.json"},
    "chat": {},
    "voice": {"VOICE_CACHE_KEYS_FILE": "utterance_keys.json"},
    "billing": {"BILLING_WEBHOOK_KEYS_FILE": "webhook_keys.json"},
}
"""What only one service has, and the setting that names it."""

_OF_EVERY_SERVICE = (*URLS, "identity.pem", "identities.json")
_OF_ENGINES: Mapping[str, tuple[str, ...]] = {
    "postgres": ("superuser_password", "init.sql"),
    "valkey": ("users.acl",),
    "rabbitmq": ("definitions.json", "erlang_cookie"),
    "grafana": ("admin_password",),
    "operator": URLS,
}
_NAMES = (*SERVICES, "operator")


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where the containers reach the engines."""

    postgres: str = "postgres:5432"
    valkey: str = "valkey:6379"
    rabbitmq: str = "broker:5672"


@dataclass(frozen=True, slots=True)
class Deployment:
    """The folder that `COMPANION_SECRETS` names."""

    root: Path

    def files(self) -> list[Path]:
        """Every file that belongs here."""
        services = [
            self.root / service / name
            for service in SERVICES
            for name in (*_OF_EVERY_SERVICE, *OWN_FILES[service].values())
        ]
        engines = [self.root / engine / name for engine, ns in _OF_ENGINES.items() for name in ns]
        return [*services, *engines]

    def create(self, hosts: Hosts, *, owner: int | None = None) -> None:
        """Make everything, for the eyes of `owner` alone (as root; else of this user).

        Raises CompanionError when something is here already.
        """
        if self.root.exists() and not (self.root.is_dir() and not any(self.root.iterdir())):
            raise CompanionError(
                f"{self.root} is in use already; nothing in it is made anew.",
                f"`companion deployment check {self.root}` says whether anything is missing.",
            )
        draft = Deployment(self.root.with_name(f".{self.root.name}.new"))
        try:
            shutil.rmtree(draft.root, ignore_errors=True)
            draft.root.mkdir(parents=True, mode=0o700)
            draft._make_keys()
            draft._make_users(hosts)
            draft._hand_over(owner)
            if self.root.exists():
                self.root.rmdir()
            draft.root.rename(self.root)
        except OSError as error:
            raise CompanionError(
                f"{self.root} can't be used: {error.strerror or error}.",
                "Name a folder that this user may make.",
            ) from error

    def troubles(self, *, owner: int | None = None) -> Iterator[str]:
        """One sentence for each secret that a container could not use, or that others can read."""
        for path in self.files():
            yield from _troubles_of(path, owner)
        yield from self._strangers()
        yield from self._lacking_rights()

    def tell_engines(self) -> None:
        """Have what the engines read say again which logins the services use, and no other.

        An engine that is made from these files, or starts with them, would else know the logins of
        the day on which they were made. Raises CompanionError when a URL has no login.
        """
        users = engine_users.Users(
            postgres={name: self._login(name, "database_url") for name in SERVICES},
            valkey={name: self._login(name, "cache_url") for name in _NAMES},
            rabbitmq={name: self._login(name, "broker_url") for name in _NAMES},
        )
        try:
            for name, text in (
                ("postgres/init.sql", engine_users.postgres_init(users)),
                ("valkey/users.acl", engine_users.valkey_acl(users)),
                ("rabbitmq/definitions.json", engine_users.rabbitmq_definitions(users)),
            ):
                replace_private(self.root / name, text)
        except OSError as error:
            raise CompanionError(
                f"{self.root} can't be written to: {error.strerror or error}.",
                "Run it as the owner of the secrets.",
            ) from error

    def _login(self, service: str, file: str) -> engine_users.Login:
        path = self.root / service / file
        try:
            return engine_users.Login.in_url(path.read_text())
        except (OSError, ValueError) as error:
            raise CompanionError(
                f"{path} is no URL with a user and a password.",
                f"`companion deployment check {self.root}` says what else is wrong.",
            ) from error

    def _strangers(self) -> Iterator[str]:
        """Logins that an engine would not know, if it were made or started anew."""
        known = (
            ("postgres/init.sql", "database_url", SERVICES, engine_users.postgres_knows),
            ("valkey/users.acl", "cache_url", _NAMES, engine_users.valkey_knows),
            ("rabbitmq/definitions.json", "broker_url", _NAMES, engine_users.rabbitmq_knows),
        )
        for engine, file, names, knows in known:
            for name in names:
                try:
                    is_known = knows((self.root / engine).read_text(), self._login(name, file))
                except (OSError, CompanionError):
                    continue  # missing, which is told by its name, or without a password
                except (ValueError, KeyError, TypeError, IndexError):
                    is_known = False
                if not is_known:
                    yield (
                        f"{self.root / engine} does not have the login of {name}/{file}: "
                        "`companion deployment users` writes it anew."
                    )

    def _lacking_rights(self) -> Iterator[str]:
        """What a service of this release may not at Valkey, by a file of an earlier one."""
        path = self.root / "valkey" / "users.acl"
        for name in _NAMES:
            try:
                login = self._login(name, "cache_url")
                lacks = engine_users.valkey_lacks(path.read_text(), name, login)
            except (OSError, ValueError, CompanionError):
                continue  # missing, unreadable, or without a password
            if lacks:
                yield (
                    f"{path} does not give {login.name} what this release needs, "
                    f"{' '.join(lacks)}: `ACL SETUSER` gives it to the Valkey that runs, and "
                    "`companion deployment users` writes it for the next start."
                )

    def _make_keys(self) -> None:
        """What the embedded default keeps in one folder, handed to whom it belongs."""
        made = DataDir(self.root / "made")
        create_secrets(made.root)
        own = {
            "auth": made.signing_keys,
            "keyvault": made.keyring,
            "voice": made.utterance_keys,
            "billing": made.webhook_keys,
        }
        for service in SERVICES:
            folder = self.root / service
            folder.mkdir(mode=0o700)
            made.identity_key(service).rename(folder / "identity.pem")
            write_private(folder / "identities.json", made.trusted_identities.read_text())
            for name in OWN_FILES[service].values():
                own[service].rename(folder / name)
        shutil.rmtree(made.root)

    def _make_users(self, hosts: Hosts) -> None:
        """A user of each engine for each service, and one of all engines for operators."""
        for engine in _OF_ENGINES:
            (self.root / engine).mkdir(mode=0o700)
        superuser = _password()
        self._write("postgres/superuser_password", superuser)
        # RabbitMQ's nodes know each other by it: capital letters, without an end of line.
        self._write("rabbitmq/erlang_cookie", secrets.token_hex(32).upper())
        self._write("grafana/admin_password", _password())
        for name in _NAMES:
            if name in SERVICES:
                role, password = engine_users.role_name(name), _password()
            else:
                role, password = SUPERUSER, superuser
            urls = (
                f"postgresql://{role}:{password}@{hosts.postgres}",
                f"redis://{name}:{_password()}@{hosts.valkey}/0",
                f"amqp://{name}:{_password()}@{hosts.rabbitmq}/{engine_users.VHOST}",
            )
            for file, url in zip(URLS, urls, strict=True):
                self._write(f"{name}/{file}", url)
        self.tell_engines()

    def _write(self, name: str, text: str) -> None:
        write_private(self.root / name, text)

    def _hand_over(self, owner: int | None) -> None:
        if owner is None:
            return
        for folder, _folders, files in os.walk(self.root):
            for name in files:
                os.chown(Path(folder, name), owner, owner)
            os.chown(folder, owner, owner)


@dataclass(frozen=True, slots=True)
class DeployedIdentities(Identities):
    """The same keys, each list and each key in the folder of its service."""

    services_here: tuple[str, ...] = field(default=SERVICES)

    @property
    def trusted_file(self) -> Path:
        return self.folder / self.services_here[0] / "identities.json"

    def key_file(self, service: str) -> Path:
        return self.folder / service / "identity.pem"

    def write(self, keys: Iterable[Entry]) -> None:
        text = json.dumps({"keys": list(keys)}, indent=2) + "\n"
        for service in self.services_here:
            replace_private(self.folder / service / "identities.json", text)

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder is that of a deployment."""
        return (folder / SERVICES[0] / "identity.pem").exists()


def _troubles_of(path: Path, owner: int | None) -> Iterator[str]:
    try:
        state = path.stat()
    except FileNotFoundError:
        yield f"{path} is missing."
        return
    except OSError as error:
        yield f"{path} can't be looked at: {error.strerror}."
        return
    if not state.st_size:
        yield f"{path} is empty."
    if stat.S_IMODE(state.st_mode) & 0o077:
        yield f"{path} can be read by others than its owner: `chmod 600` it."
    if owner is not None and state.st_uid != owner:
        yield f"{path} belongs to user id {state.st_uid}, and the containers run as {owner}."


def _password() -> str:
    # Safe in a URL and in a configuration file without any quoting.
    return secrets.token_urlsafe(24)
