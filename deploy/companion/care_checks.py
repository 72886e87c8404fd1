"""What nobody notices until it is too late: secrets that are old or open, backups, misspellings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from deploy.companion.checks import Finding, not_looked_at, open_to_others
from deploy.companion.data_dir import DataDir, read_json

# docs/rotation.md says the same.
ROTATED_WITHIN = {
    "signing key": timedelta(days=90),
    "sealing keys": timedelta(days=180),
    "identities": timedelta(days=180),
    "passwords": timedelta(days=365),
}
BACKUP_WITHIN = timedelta(hours=26)


def care(secrets: Path, *, sandbox: bool, data: DataDir | None = None) -> list[Finding]:
    """All of it. `data`: of the embedded default, which keeps everything in one folder."""
    # What compose tells whom is of no interest in Kubernetes.
    is_of_compose = data is None and not is_mounted(secrets)
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "settings": partial(idle_settings, secrets) if is_of_compose else unknown_settings,
        "secrets": partial(readable_by_others, secrets),
        "rotation": partial(due_rotations, secrets),
    }
    if data is not None:
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


def unknown_settings() -> Iterator[Finding]:
    """Variables that are named like ours and read by nobody."""
    from shared.settings.unknown import told
    from shared.settings.unknown import unknown_settings as strangers

    unknown = strangers(os.environ)
    if unknown:
        text = f"Nobody reads {told(unknown)}."
        yield Finding("settings", "warning", text, "docs/settings.md has all that there are.")
    else:
        yield Finding("settings", "ok", "every variable with our prefixes is known")


def idle_settings(secrets: Path) -> Iterator[Finding]:
    """Settings of a deployment in containers that nobody reads where they stand."""
    from deploy.companion.compose_settings import SettingsFiles

    # An environment of our own tells what it was given of theirs.
    yield from (finding for finding in unknown_settings() if finding.level != "ok")
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
    """Secrets that are older than they should be."""
    ages = {"signing key": _signing_key_age(secrets)}
    if is_mounted(secrets):
        text = "Not looked at but for the signing key: files are as new here as their mount."
        remedy = "Run it on the folder that the Secrets were made from."
        yield Finding("rotation", "warning", text, remedy)
    else:
        ages |= {
            "sealing keys": _oldest_of(secrets, ("webhook", "utterance", "voice-cache")),
            "identities": _oldest_of(secrets, (".pem",)),
            "passwords": _oldest_of(secrets, ("passwords.json", "database_url")),
        }
    late = {name: age for name, age in ages.items() if age and age > ROTATED_WITHIN[name]}
    for name, age in late.items():
        text = f"The {name}: {age.days} days old, due after {ROTATED_WITHIN[name].days}."
        yield Finding("rotation", "warning", text, "docs/rotation.md says how.")
    if not late:
        told = ", ".join(f"{name} {age.days} d" for name, age in ages.items() if age is not None)
        yield Finding("rotation", "ok", f"none is due ({told})")


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


def _signing_key_age(secrets: Path) -> timedelta | None:
    for path in (secrets / "auth-signing-keys.json", secrets / "auth" / "signing_keys.json"):
        keys = (read_json(path) or {}).get("keys", [])
        since = [key.get("activated_at") for key in keys if key.get("state") == "active"]
        if since and since[0]:
            return timedelta(seconds=max(0.0, time.time() - float(since[0])))
    return None


def _oldest_of(secrets: Path, names: tuple[str, ...]) -> timedelta | None:
    changed = [
        path.stat().st_mtime
        for path in secrets.rglob("*")
        if path.is_file() and any(name in path.name for name in names)
    ]
    return timedelta(seconds=max(0.0, time.time() - min(changed))) if changed else None
