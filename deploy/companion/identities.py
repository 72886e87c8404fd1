"""The keys by which services know each other: one private key per service, one list of all public.

Running services read both files again within a second of a change. So a key is exchanged without a
refused call in three steps: the new public key joins the list; once everybody has read it, the new
private key takes the old one's place; the old public key is marked as retired and trusted for as
long as a token of it may be under way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.companion.data_dir import DataDir, read_json, replace_private
from deploy.companion.errors import CompanionError
from deploy.companion.programs import SERVICES
from shared.values import dataclass

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

PAUSE_SECONDS = 3.0
"""How long the new public key is known before it is used: services look once a second."""

Entry = dict[str, Any]


def missing_identities(data: DataDir, services: Sequence[str] = SERVICES) -> list[str]:
    """The services that have no identity of their own yet."""
    from shared.identity import service_of_key

    trusted = read_json(data.trusted_identities)
    keys = trusted.get("keys", []) if isinstance(trusted, dict) else []
    known = {service_of_key(str(key.get("kid"))) for key in keys if isinstance(key, dict)}
    return [name for name in services if name not in known or not data.identity_key(name).exists()]


def create_identities(data: DataDir, services: Sequence[str]) -> None:
    """Give each service a key pair and let all trust it.

    Nothing that is kept depends on these keys, so a lost one may be replaced while nothing runs.
    """
    data.identities.mkdir(parents=True, exist_ok=True, mode=0o700)
    identities = Identities(data.identities)
    trusted = read_json(data.trusted_identities) or {"keys": []}
    keys = [key for key in trusted["keys"] if _service_of(key) not in services]
    for service in services:
        key = _new_key(service)
        replace_private(identities.key_file(service), key.as_pem(private=True).decode())
        keys.append(_public(key))
    identities.write(keys)


@dataclass(frozen=True, slots=True)
class KnownIdentity:
    """A public key in the list, as an operator sees it."""

    service: str
    kid: str
    state: str
    retired_at: int | None


@dataclass(frozen=True, slots=True)
class Identities:
    """A folder with `trusted.json` and one `<service>.pem` per service."""

    folder: Path

    @property
    def trusted_file(self) -> Path:
        return self.folder / "trusted.json"

    def key_file(self, service: str) -> Path:
        return self.folder / f"{service}.pem"

    def read(self) -> list[Entry]:
        """The public keys. Raises CompanionError when they can't be used."""
        from shared.identity import trusted_keys

        try:
            text = self.trusted_file.read_text("utf-8")
            trusted_keys(text)
        except (OSError, ValueError) as error:
            raise CompanionError(
                f"The public keys in {self.trusted_file} can't be used.",
                "Restore the file, or start companion anew: it then makes new identities.",
            ) from error
        keys: list[Entry] = json.loads(text)["keys"]
        return keys

    def write(self, keys: Iterable[Entry]) -> None:
        replace_private(self.trusted_file, json.dumps({"keys": list(keys)}, indent=2) + "\n")

    def services(self) -> list[str]:
        """Those in the list, each once."""
        return list(dict.fromkeys(_service_of(key) for key in self.read()))

    def known(self) -> list[KnownIdentity]:
        """Every public key, and whether it is in use."""
        keys = self.read()
        used = self._used(_service_of(key) for key in keys)
        return [
            KnownIdentity(_service_of(key), key["kid"], _state_of(key, used), key.get("retired_at"))
            for key in keys
        ]

    def rotate(
        self,
        services: Sequence[str],
        *,
        pause_seconds: float = PAUSE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> dict[str, str]:
        """Exchange the keys of services under way; answers the new key ids by service.

        Raises CompanionError. Killed at any moment it leaves files that work; the next call goes on
        from there.
        """
        with self._alone():
            new = {service: _new_key(service) for service in services}
            self.write([*self._tidied(), *(_public(key) for key in new.values())])
            sleep(pause_seconds)
            for service, key in new.items():
                replace_private(self.key_file(service), key.as_pem(private=True).decode())
            self.write(self._tidied())
        return {service: str(key.kid) for service, key in new.items()}

    def tidy(self) -> None:
        """Drop the keys whose last token has expired. Raises CompanionError."""
        with self._alone():
            self.write(self._tidied())

    def _tidied(self) -> list[Entry]:
        """The list without what is over; what no service signs with any more is retired now."""
        from shared.identity import RETIRED_SECONDS

        keys, now = self.read(), int(time.time())
        used = self._used(_service_of(key) for key in keys)
        marked = [
            # One that was put back from a backup is no longer retired.
            {name: value for name, value in key.items() if name != "retired_at"}
            if _state_of(key, used) == "in use"
            else {"retired_at": now} | key
            for key in keys
        ]
        return [key for key in marked if now < key.get("retired_at", now) + RETIRED_SECONDS]

    def _used(self, services: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The public half of what each service signs with."""
        from joserfc.jwk import ECKey

        used: dict[str, Mapping[str, Any]] = {}
        for service in set(services):
            try:
                key = ECKey.import_key(self.key_file(service).read_text())
            except (OSError, ValueError) as error:
                raise CompanionError(
                    f"The key of {service} can't be read from {self.key_file(service)}.",
                    "Restore the file, or start companion anew: it then makes a new identity.",
                ) from error
            used[service] = key.as_dict(private=False)
        return used

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.folder.is_dir():
            raise CompanionError(f"There is no folder {self.folder}.")
        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CompanionError("Another command exchanges identities now.") from error
            yield
        finally:
            os.close(lock)


def _new_key(service: str) -> ECKey:
    from joserfc.jwk import ECKey

    from shared.identity import key_id

    key = ECKey.generate_key("P-256")
    return ECKey.import_key(
        key.as_dict(private=True), {"kid": key_id(service, key), "use": "sig", "alg": "ES256"}
    )


def _public(key: ECKey) -> Entry:
    return dict(key.as_dict(private=False))


def _service_of(key: Entry) -> str:
    from shared.identity import service_of_key

    return service_of_key(str(key["kid"]))


def _state_of(key: Entry, used: Mapping[str, Mapping[str, Any]]) -> str:
    mine = used[_service_of(key)]
    if (key["x"], key["y"]) == (mine["x"], mine["y"]):
        return "in use"
    return "retired" if "retired_at" in key else "not in use"
