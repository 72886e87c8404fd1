"""What the operator's environment says about the embedded default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from deploy.companion.errors import CompanionError
from shared.values import dataclass

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: the Procfile lies here and processes run here."""

VENDOR_URLS = {
    "PROVIDER_OPENAI_URL": "https://api.openai.com/v1",
    "PROVIDER_ANTHROPIC_URL": "https://api.anthropic.com",
    "PROVIDER_GEMINI_URL": "https://generativelanguage.googleapis.com",
    "PROVIDER_ELEVENLABS_URL": "https://api.elevenlabs.io",
}
"""The vendors' base URLs as their official SDKs take them."""

COMPATIBLE_URL = "PROVIDER_COMPATIBLE_URL"
"""An operator's own server in OpenAI's manner; there is none by default."""

_CHOICES = (
    "PORT",
    "COMPANION_PROCFILE",
    "COMPANION_START_SECONDS",
    "DATABASE_URL",
    "CACHE_URL",
    "BROKER_URL",
    "SANDBOX",
    "CORS_ORIGINS",
    "LOG_LEVEL",
    "TOKEN_ISSUER",
    "TOKEN_AUDIENCE",
    *VENDOR_URLS,
    COMPATIBLE_URL,
)

OF_LIBRARIES = ("OTEL_", "AWS_")
"""Beginnings of names that are not ours and that our processes' libraries read."""

# What is said to one command, and shapes no run: above all, where that run is.
_OF_COMMANDS = frozenset(
    [
        *("COMPANION_ADMIN_PASSWORD", "COMPANION_BACKUP_PASSPHRASE", "COMPANION_DATA_DIR"),
        *("COMPANION_PROCESS_OF", "COMPANION_SECRETS", "COMPANION_SETTINGS", "COMPANION_UID"),
        "COMPANION_VERSION",
    ]
)

# Secrets that may be in a file, named by `<NAME>_FILE`, and that are looked at here. Others are
# passed on as they are named, and the service reads the file.
_ENGINES = ("DATABASE_URL", "CACHE_URL", "BROKER_URL")
_SECRETS = (*_ENGINES, "AUTH_SMTP_URL", "COMPATIBLE_API_KEY")
# What may hold one, of names that we don't know.
_SECRET_NAME = re.compile("KEY|SECRET|TOKEN|PASS|HEADERS|CREDENTIAL")

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's choices; everything that is not said here has a working default."""

    data_dir: Path
    port: int
    procfile: Path
    start_seconds: int = 90
    database_url: str | None = field(default=None, repr=False)
    cache_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    sandbox: bool = False
    vendor_urls: Mapping[str, str] = field(default_factory=dict)
    cors_origins: str = ""
    log_level: str = "info"
    token_issuer: str = "https://companion.invalid/auth"  # noqa: S105 - a URL
    token_audience: str = "companion"  # noqa: S105 - a name
    inherited: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The whole environment, of which each process gets the few variables that concern it."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; an empty variable counts as unset. Raises CompanionError."""
        env = _with_secrets({k: v for k, v in (environment or os.environ).items() if v != ""})
        port = _whole(env, "PORT", 8080, least=1, most=65535)
        # Where people reach us, so that OAuth libraries find our metadata below it (RFC 8414).
        address = env.get("AUTH_PUBLIC_URL", f"http://127.0.0.1:{port}").rstrip("/")
        return cls(
            data_dir=Path(env.get("COMPANION_DATA_DIR", ROOT / ".companion")).resolve(),
            port=port,
            procfile=Path(env.get("COMPANION_PROCFILE", ROOT / "Procfile")).resolve(),
            start_seconds=_whole(env, "COMPANION_START_SECONDS", 90, least=10, most=3600),
            database_url=_url(env, "DATABASE_URL", "postgresql", "postgres"),
            cache_url=_url(env, "CACHE_URL", "redis", "rediss"),
            broker_url=_url(env, "BROKER_URL", "redis", "rediss", "amqp", "amqps"),
            sandbox=_flag(env, "SANDBOX"),
            vendor_urls={
                **{name: env.get(name, url) for name, url in VENDOR_URLS.items()},
                **{name: env[name] for name in (COMPATIBLE_URL,) if name in env},
            },
            cors_origins=env.get("CORS_ORIGINS", ""),
            log_level=env.get("LOG_LEVEL", "info"),
            token_issuer=env.get("TOKEN_ISSUER", address),
            token_audience=env.get("TOKEN_AUDIENCE", "companion"),
            inherited=env,
        )

    @property
    def choices(self) -> dict[str, str]:
        """The variables that shape a run, so that later commands see it as it was started: all
        settings of ours and what is named like one, but for secrets. Of those only where the
        engines are is here, which no command can do without; the others one process alone has.

        One that was not set stands here as empty, which counts as unset.
        """
        # Pydantic comes along, which takes longer to import than many a command takes at all.
        from shared.settings.known import KNOWN, SECRETS
        from shared.settings.unknown import is_named_like_ours

        known = {*_CHOICES, *KNOWN, *(f"{name}_FILE" for name in SECRETS)}
        others = {
            name
            for name in self.inherited
            if is_named_like_ours(name) or name.startswith(OF_LIBRARIES)
        }
        names = (known | others) - _OF_COMMANDS - (SECRETS - set(_ENGINES))
        ours = {name for name in known if not name.startswith(OF_LIBRARIES)}
        names = {name for name in names if name in ours or not _SECRET_NAME.search(name)}
        return {name: self.inherited.get(name, "") for name in sorted(names)}

    @property
    def embeds_postgres(self) -> bool:
        """Whether PostgreSQL is ours to run."""
        return self.database_url is None

    @property
    def embeds_valkey(self) -> bool:
        """Whether Valkey is ours to run: it serves as cache, as broker or as both."""
        return self.cache_url is None or self.broker_url is None


def _with_secrets(env: dict[str, str]) -> dict[str, str]:
    # Beside a deployment in containers, services' own are files of theirs, which are not here.
    names = _ENGINES if env.get("COMPANION_SECRETS") else _SECRETS
    if not any(f"{name}_FILE" in env for name in names):
        return env
    # Pydantic takes longer to import than many a command takes at all.
    from shared.settings import SettingsRefused, with_secret_files

    try:
        return with_secret_files(env, names)
    except SettingsRefused as refused:
        raise CompanionError(str(refused)) from refused


def _whole(env: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    text = env.get(name, str(default))
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not is_number or not least <= int(text) <= most:
        raise CompanionError(f"{name} is {text!r}.", f"Set it to a number from {least} to {most}.")
    return int(text)


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").lower()
    if text not in _TRUE | _FALSE:
        raise CompanionError(f"{name} is {text!r}.", "Set it to 1 or 0.")
    return text in _TRUE


def _url(env: Mapping[str, str], name: str, *schemes: str) -> str | None:
    url = env.get(name)
    if url is not None and url.partition("://")[0] not in schemes:
        # The value itself stays unsaid: it may hold a password.
        raise CompanionError(f"{name} has an unknown scheme.", f"Use {schemes[0]}://…")
    return url
