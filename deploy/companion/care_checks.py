"""What nobody notices until it is too late: secrets that are old or open, backups, misspellings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from deploy.companion.checks import Finding, not_looked_at, open_to_others
from deploy.companion.data_dir import DataDir, read_json

# docs/rotation.md says the same. How old the keyring is, its database tells (server_checks.py).
ROTATED_WITHIN = {
    "signing key": timedelta(days=90),
    "refresh-peppers": timedelta(days=180),
    "second-factors": timedelta(days=180),
    "audit": timedelta(days=365),
    "webhooks": timedelta(days=180),
    "utterances": timedelta(days=180),
    "keyring": timedelta(days=180),
    "identities": timedelta(days=180),
    "passwords": timedelta(days=365),
}
BACKUP_WITHIN = timedelta(hours=26)


def care(
    secrets: Path,
    *,
    sandbox: bool,
    data: DataDir | None = None,
    environ: Mapping[str, str] = os.environ,
) -> list[Finding]:
    """All of it. `data`: of the embedded default, which keeps everything in one folder.
    `environ`: what its settings are, or were when it was started."""
    # What compose tells whom is of no interest in Kubernetes.
    is_of_compose = data is None and not is_mounted(secrets)
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "settings": partial(idle_settings, secrets)
        if is_of_compose
        else partial(unknown_settings, environ),
        "secrets": partial(readable_by_others, secrets),
        "rotation": partial(due_rotations, secrets),
    }
    if data is not None:
        checks["settings"] = partial(embedded_settings, environ)
        checks["backup"] = partial(backups, data, sandbox=sandbox)
    return [finding for subject, check in checks.items() for finding in _made(subject, check)]


def is_mounted(secrets: Path) -> bool:
    """Whether it shows Secrets of Kubernetes, which links each file by way of `..data`."""
    return any(link.is_symlink() for link in secrets.glob("*/..data"))


def _made(subject: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Exception as error:
        return [not_looked_at(subject, error)]


def embedded_settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Settings of the embedded default that nobody reads there."""
    from deploy.companion.embedded_settings import WHERE_IT_IS_SAID, idle_here

    if idle := idle_here(environ):
        yield Finding("settings", "warning", idle, WHERE_IT_IS_SAID)
    yield from (one for one in unknown_settings(environ) if not idle or one.level != "ok")


def unknown_settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that are named like ours and read by nobody."""
    from shared.settings.unknown import told
    from shared.settings.unknown import unknown_settings as strangers

    unknown = strangers(environ)
    if unknown:
        text = f"Nobody reads {told(unknown)}."
        yield Finding("settings", "warning", text, "docs/settings.md has all that there are.")
    else:
        yield Finding("settings", "ok", "every variable with our prefixes is known")


def idle_settings(secrets: Path) -> Iterator[Finding]:
    """Settings of a deployment in containers that nobody reads where they stand."""
    from deploy.companion.compose_settings import SettingsFiles

    # An environment of our own tells what it was given of theirs.
    yield from (finding for finding in unknown_settings(os.environ) if finding.level != "ok")
    files = SettingsFiles.beside(secrets)
    idle = list(files.troubles())
    for text in idle:
        yield Finding("settings", "warning", text, "docs/compose.md says what belongs where.")
    if not files.found():
        text = f"not looked at: neither {files.folder} nor {files.dot_env} is here"
        yield Finding("settings", "warning", text, "Name their folder with COMPANION_SETTINGS.")
    elif not idle:
        told = " and ".join(map(str, files.found()))
        absent = "".join(f"; not looked at: {path}, which is not here" for path in files.absent())
        yield Finding("settings", "ok", f"every setting of ours in {told} is read{absent}")


def readable_by_others(secrets: Path) -> Iterator[Finding]:
    """Files that more than their owner can read."""
    if not secrets.is_dir():
        yield Finding("secrets", "problem", f"There is no folder {secrets}.", "Restore it.")
        return
    exposed = [str(path) for path in open_to_others(secrets)]
    if exposed:
        text = f"Others can read {', '.join(exposed[:5])}{' …' if exposed[5:] else ''}."
        mount = "Mount the Secrets with defaultMode: 0440 and the pod's fsGroup."
        remedy = mount if is_mounted(secrets) else f"chmod -R go= {secrets}"
        yield Finding("secrets", "problem", text, remedy)
    else:
        yield Finding("secrets", "ok", f"{secrets} is for its owner alone")


def due_rotations(secrets: Path) -> Iterator[Finding]:
    """Secrets that are older than they should be: by what their file says of its versions, else by
    the age of the file itself."""
    mounted = is_mounted(secrets)
    ages = {"signing key": _signing_key_age(secrets), **_ages_of_versions(secrets, mounted=mounted)}
    if mounted:
        text = "Not looked at: identities and passwords. Files are as new here as their mount."
        remedy = "Run it on the folder that the Secrets were made from."
        yield Finding("rotation", "warning", text, remedy)
    else:
        ages |= {
            "identities": _oldest_of(secrets, (".pem",)),
            "passwords": _oldest_of(secrets, ("passwords.json", "database_url")),
        }
    late = [name for name, age in ages.items() if age and age > ROTATED_WITHIN[name]]
    yield from (too_old(name, age) for name in late if (age := ages[name]))
    if not late:
        told = ", ".join(f"{name} {age.days} d" for name, age in ages.items() if age is not None)
        yield Finding("rotation", "ok", f"none is due ({told})")


def too_old(name: str, age: timedelta) -> Finding:
    """Of a secret that should have been exchanged by now."""
    from deploy.companion.sealing_keys import KINDS

    title = KINDS[name].title if name in KINDS else name
    text = f"The {title}: {age.days} days old, due after {ROTATED_WITHIN[name].days}."
    return Finding("rotation", "warning", text, "docs/rotation.md says how.")


def backups(data: DataDir, *, sandbox: bool) -> Iterator[Finding]:
    """When the last one was taken."""
    from deploy.companion.backup.marker import last_backup

    last = last_backup(data)
    if last is None:
        text = "None was ever taken from here."
        if sandbox:
            yield Finding("backup", "ok", text + " (A sandbox needs none.)")
        else:
            yield Finding("backup", "warning", text, "`companion backup create`, daily.")
        return
    age = datetime.now(UTC) - last.at
    text = f"The last one is {age.total_seconds() / 3600:.1f} h old: {last.path}"
    if age > BACKUP_WITHIN and not sandbox:
        yield Finding("backup", "warning", text, "`companion backup create`, daily.")
    else:
        yield Finding("backup", "ok", text)


def _ages_of_versions(secrets: Path, *, mounted: bool) -> dict[str, timedelta | None]:
    """Since when the active version of each sort of secret with versions is in use, by its name in
    `companion secrets`."""
    from deploy.companion.sealing_keys import KINDS

    ages: dict[str, timedelta | None] = {}
    for name, kind in KINDS.items():
        places = (kind.file(DataDir(secrets.parent)).name, kind.deployed)
        found = [path for place in places if (path := secrets / place).is_file()]
        document = read_json(found[0]) if found else None
        if isinstance(document, dict) and (entries := document.get(kind.entries)):
            since = _used_since(entries) or _first_moment_in(document)
            if since is None and not mounted:
                since = found[0].stat().st_mtime
            ages[name] = _age(since)
    return ages


def _used_since(entries: list[Mapping[str, Any]]) -> float | None:
    """None for a version that is as old as its file."""
    by_version = {int(entry["version"]): entry for entry in entries}
    begins = {version: float(entry.get("from", 0)) for version, entry in by_version.items()}
    used = max([v for v, moment in begins.items() if moment <= time.time()] or begins)
    return begins[used] or None


def _first_moment_in(document: Mapping[str, Any]) -> float | None:
    """The file is as old as the first thing that it tells of its signing keys, or older."""
    names = ("published_at", "activated_at", "retired_at")
    keys = [key for key in document.get("keys", []) if isinstance(key, dict)]
    moments = [float(key[name]) for key in keys for name in names if key.get(name)]
    return min(moments, default=None)


def _age(since: float | None) -> timedelta | None:
    return None if since is None else timedelta(seconds=max(0.0, time.time() - since))


def _signing_key_age(secrets: Path) -> timedelta | None:
    for path in (secrets / "auth-signing-keys.json", secrets / "auth" / "signing_keys.json"):
        keys = (read_json(path) or {}).get("keys", [])
        since = [key.get("activated_at") for key in keys if key.get("state") == "active"]
        if since and since[0]:
            return _age(float(since[0]))
    return None


def _oldest_of(secrets: Path, names: tuple[str, ...]) -> timedelta | None:
    changed = [
        path.stat().st_mtime
        for path in secrets.rglob("*")
        if path.is_file() and any(name in path.name for name in names)
    ]
    return _age(min(changed, default=None))
