"""What compose reads where: `.env`, and a file of settings for each service and each proxy.

docker-compose.yml says some settings itself, most of them as `.env` has them. Docker prefers what
it says to what a file of settings does, so there they do nothing; and what it doesn't say does
nothing in `.env`. A test holds these lists against it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.companion.programs import PROXIES, SERVICES
from deploy.companion.settings import VENDOR_URLS
from shared.values import dataclass

_OF_ALL = frozenset(
    ["COMPANION_ENVIRONMENT", "LOG_LEVEL", "SANDBOX", "TOKEN_AUDIENCE", "TOKEN_ISSUER"]
)
_OF_GATEWAY = frozenset(["CORS_ORIGINS", "LEGACY_CHECKS_TOKENS", "LEGACY_URL"])

FROM_DOT_ENV: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(SERVICES, _OF_ALL),
    "auth": _OF_ALL | {"AUTH_PUBLIC_URL"},
    "chat": _OF_ALL | {"CHAT_TURNS_PER_SECOND"},
    "keyvault": _OF_ALL | VENDOR_URLS.keys(),
    "gateway": (_OF_ALL | _OF_GATEWAY) - {"COMPANION_ENVIRONMENT", "LOG_LEVEL"},
    "egress": frozenset([*VENDOR_URLS, "EGRESS_CA_BUNDLE", "SANDBOX"]),
}
"""By whose file of settings: what compose tells it as `.env` has it."""

SAID = {
    *("AUTH_PEERS_HEALTH", "AUTH_SIGNING_KEYS_FILE", "BILLING_WEBHOOK_KEYS_FILE"),
    *("BROKER_URL_FILE", "CACHE_URL_FILE", "COMPANION_POOL", "DATABASE_URL_FILE", "EGRESS_ADMIN"),
    *("EGRESS_KEYVAULT", "EGRESS_LISTEN", "EGRESS_METRICS", "EGRESS_URL", "GATEWAY_ADMIN"),
    *("GATEWAY_AUTH", "GATEWAY_AUTH_INTERNAL", "GATEWAY_BILLING", "GATEWAY_HEAP_MEBIBYTES"),
    "GATEWAY_KEYVAULT",
    *("GATEWAY_LISTEN", "GATEWAY_METRICS", "IDENTITY_KEY_FILE", "IDENTITY_TRUST_FILE"),
    *("JWKS_URL", "KEYVAULT_KEYRING_FILE", "VOICE_CACHE_KEYS_FILE"),
}
"""What compose says to whoever reads it, and nobody else can. (And addresses: `_ADDRESS`.)"""

FILES = "/files"
"""Where billing finds the volume for what it keeps in files."""

_KEPT = {"BILLING_EXPORT_TARGET", "BILLING_LEDGER_ARCHIVE_DIR"}
_MEMORY = ("/tmp", "/dev/shm")  # noqa: S108 - a container's

_ADDRESS = re.compile(
    r"(AUTH|KEYVAULT|CHAT|VOICE|BILLING)_INTERNAL_URL|GATEWAY_(CHAT|VOICE)_[A-Z]+"
)

OF_COMPOSE = frozenset(
    [
        *("COMPANION_BIND", "COMPANION_GID", "COMPANION_REGISTRY", "COMPANION_SECRETS"),
        *("COMPANION_SETTINGS", "COMPANION_UID", "COMPANION_VERSION", "EGRESS_THREADS"),
        *("ENVOY_IMAGE", "GATEWAY_THREADS", "GRAFANA_IMAGE", "GRAFANA_PORT", "LEGACY_IMAGE"),
        *("PORT", "POSTGRES_IMAGE", "PROMETHEUS_IMAGE", "PROMETHEUS_RETENTION", "RABBITMQ_IMAGE"),
        "VALKEY_IMAGE",
    ]
)
"""What `.env` says to compose alone."""

_READ_IN_DOT_ENV = OF_COMPOSE.union(*FROM_DOT_ENV.values())
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_READERS: Mapping[str, tuple[str, ...]] = {
    **{f"{name.upper()}_": (name,) for name in (*SERVICES, *PROXIES)},
    "COMPATIBLE_API_KEY": ("keyvault",),
    "COMPATIBLE_MODELS": ("chat",),
    "MODEL_CONTEXTS": ("chat",),
    "MODEL_OVERRIDES": ("chat", "voice"),
    "PROVIDER_COMPATIBLE_URL": ("keyvault", "chat", "egress"),
    "STRIPE_": ("billing",),
}
"""Whose files a setting may stand in, by its name or how that begins; others may in any."""


@dataclass(frozen=True, slots=True)
class SettingsFiles:
    """Where a deployment's settings stand."""

    folder: Path
    dot_env: Path

    @classmethod
    def beside(cls, secrets: Path) -> SettingsFiles:
        """Those of COMPANION_SETTINGS, in the environment or `.env`, else beside the folder of
        secrets, where compose looks. Raises OSError."""
        home = secrets.absolute().parent
        dot_env = home / ".env"
        folder = os.environ.get("COMPANION_SETTINGS")
        if not folder and dot_env.is_file():
            folder = _plain(_settings(dot_env).get("COMPANION_SETTINGS", ""))
        return cls(home / (folder or "settings"), dot_env)

    def found(self) -> list[Path]:
        """What of it is there."""
        return [path for path in (self.folder, self.dot_env) if path.exists()]

    def absent(self) -> list[Path]:
        """What of it is not."""
        return [path for path in (self.folder, self.dot_env) if not path.exists()]

    def troubles(self) -> Iterator[str]:
        """One sentence for each setting that does nothing where it stands, or names a place that
        ends with its container. Raises OSError."""
        for path in sorted(self.folder.glob("*.env")):
            yield from _of_file(path)
        if self.dot_env.is_file():
            yield from self._of_dot_env()

    def _of_dot_env(self) -> Iterator[str]:
        from shared.settings.known import KNOWN
        from shared.settings.unknown import unknown_settings

        names = _settings(self.dot_env)
        ours = {name for name in names if name.removesuffix("_FILE") in KNOWN or name in KNOWN}
        for name in sorted((ours | unknown_settings(names).keys()) - _READ_IN_DOT_ENV):
            yield f"{name} in {self.dot_env} does nothing: {self._place_of(name)}."

    def _place_of(self, name: str) -> str:
        if name in SAID or _ADDRESS.fullmatch(name):
            return "compose says it itself"
        return _belongs(self.folder, name)


def _of_file(path: Path) -> Iterator[str]:
    from shared.settings.known import KNOWN
    from shared.settings.unknown import told, unknown_settings

    if path.stem not in FROM_DOT_ENV:
        yield f"Nobody reads {path}; there are: {', '.join(FROM_DOT_ENV)}."
        return
    names = _settings(path)
    for name in sorted(names):
        if name in _READ_IN_DOT_ENV - {"PORT"}:
            yield f"{name} in {path} does nothing: compose takes it from .env."
        elif name in SAID or _ADDRESS.fullmatch(name):
            yield f"{name} in {path} does nothing: compose says it itself."
        elif (
            KNOWN & {name, name.removesuffix("_FILE")}
            and (readers := _readers(name))
            and path.stem not in readers
        ):
            yield f"{name} in {path} does nothing: {_belongs(path.parent, name)}."
    yield from _in_memory(path, names)
    unknown = {n: near for n, near in unknown_settings(names).items() if n not in OF_COMPOSE}
    if unknown:
        yield f"Nobody reads what {path} calls {told(unknown)}."


def _in_memory(path: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """All else that a container can't keep it can't write to either: its root is read-only."""
    for name in sorted(_KEPT & settings.keys()):
        place = Path(_plain(settings[name]).removeprefix("file://"))
        if any(place.is_relative_to(memory) for memory in _MEMORY):
            yield (
                f"{name} in {path} names a container's memory, and what is there ends with it:"
                f" {FILES} is a volume."
            )


def _readers(name: str) -> tuple[str, ...]:
    return next((files for start, files in _READERS.items() if name.startswith(start)), ())


def _belongs(folder: Path, name: str) -> str:
    files = [f"{file}.env" for file in _readers(name)]
    if not files:
        return f"it belongs into the files of {folder} whose services read it"
    return f"it belongs into {folder / ' and '.join(files)}"


def _settings(path: Path) -> dict[str, str]:
    """The variables that a file sets, each with what the line has behind its name."""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    return {match[1]: match[2] for line in lines if (match := _LINE.match(line))}


def _plain(value: str) -> str:
    """What a line of `.env` says, without its quotes or the remark behind it."""
    text = value.strip()
    if text[:1] in {"'", '"'}:
        return text[1:].partition(text[0])[0]
    return re.split(r"\s+#", text)[0]
