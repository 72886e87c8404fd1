"""A service's settings, wherever the console runs that does the service's work."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from deploy.companion.backup.estate import SECRETS_VARIABLE
from deploy.companion.deployment import OWN_FILES, URLS
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.service_settings import read_settings
from shared.settings import EnvironmentSettings

S = TypeVar("S", bound=EnvironmentSettings)

# Where others are, in the deployments that we ship.
_OTHERS = {
    "JWKS_URL": "http://auth:8000/.well-known/jwks.json",
    "EGRESS_URL": "http://egress:8081",
}
# Where a service's containers see their folder of it.
_MOUNTED = "/run/secrets/"


def settings_of(service: str, kind: type[S], *, known_by: Collection[str]) -> S:
    """A service's settings, wherever this console runs. Raises CompanionError.

    `known_by`: what is set in the service's own container alone, whose environment says it all.
    """
    if folder := deployment_folder():
        return settings_of_deployment(service, kind, folder)
    if any(name in os.environ for name in known_by):
        return read_settings(kind)
    return settings_of_installation(service, kind, Installation.open())


def deployment_folder() -> Path | None:
    """The folder that `COMPANION_SECRETS` names: then the deployment in containers is meant."""
    folder = os.environ.get(SECRETS_VARIABLE)
    return Path(folder) if folder else None


def settings_of_deployment(service: str, kind: type[S], secrets: Path) -> S:
    """As this environment says them, with the service's own secrets. Raises CompanionError."""
    folder = secrets / service
    for name in URLS:
        try:
            (folder / name).read_bytes()
        except OSError as error:
            raise CompanionError(
                f"{service}'s secrets can't be read from {folder}.",
                f"{SECRETS_VARIABLE} is the folder with one folder a service.",
            ) from error
    own = {variable: str(folder / file) for variable, file in OWN_FILES[service].items()}
    environment = {
        **_OTHERS,
        **{name: _here(value, folder) for name, value in os.environ.items()},
        **{name.upper(): "" for name in URLS},
        **{f"{name.upper()}_FILE": str(folder / name) for name in URLS},
        "IDENTITY_KEY_FILE": str(folder / "identity.pem"),
        "IDENTITY_TRUST_FILE": str(folder / "identities.json"),
        **own,
    }
    return _settings(environment, kind)


def settings_of_installation(service: str, kind: type[S], installation: Installation) -> S:
    """In the embedded default: while it runs, as it was started. Raises CompanionError."""
    # What this shell says and the run was not told, counts as unset.
    unset = {name: "" for name in os.environ if name not in installation.settings.inherited}
    return _settings(unset | installation.environment(installation.role(service)), kind)


def _here(value: str, folder: Path) -> str:
    """What a service's container finds among its secrets lies in its folder."""
    return str(folder / value.removeprefix(_MOUNTED)) if value.startswith(_MOUNTED) else value


def _settings(environment: Mapping[str, str], kind: type[S]) -> S:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return read_settings(kind)
    finally:
        # What is a service's own is not for whatever else this process does.
        os.environ.clear()
        os.environ.update(before)
