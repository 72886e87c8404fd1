"""The environment of each process: the variables that it needs, and no others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deploy.companion.data_dir import DataDir
from deploy.companion.ports import LOOPBACK
from deploy.companion.programs import SERVICES, Kind, Role, instances, internal
from deploy.companion.settings import COMPATIBLE_URL, OF_LIBRARIES, Settings
from shared.tiers import TIERS
from shared.values import dataclass

# What any program may want to know about the machine and the person it runs for.
_OF_THE_MACHINE = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "PYTHONWARNINGS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "VIRTUAL_ENV",
)

# What an operator may set for all services at once.
_OF_ALL_SERVICES = (
    "COMPANION_ENVIRONMENT",
    "COMPANION_STRICT_SETTINGS",
    "DATABASE_CONNECTIONS",
    "MODEL_CONTEXTS",
    "MODEL_OVERRIDES",
)
_OF_TRACES, _OF_AWS = OF_LIBRARIES
_OWN_MODELS, _OWN_KEY = "COMPATIBLE_MODELS", "COMPATIBLE_API_KEY"
# Where tiers have pools of their own, on the one machine that they share: a turn keeps a core busy
# for some ten milliseconds, so this is a tenth of one.
_UNPAID_PER_SECOND = 10
# What the simulator, which wants a key, gets in place of the operator's.
_SIMULATED_KEY = "sim-compatible"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is reached."""

    database_url: str
    cache_url: str
    broker_url: str
    ports: Mapping[str, int]

    def of(self, port_name: str) -> str:
        """The base URL of a process of ours."""
        return f"http://{LOOPBACK}:{self.ports[port_name]}"


def machine_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The part that all processes share; the supervisor itself gets this and no more."""
    kept = {name: inherited[name] for name in _OF_THE_MACHINE if name in inherited}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def environment_of(
    role: Role, *, settings: Settings, data: DataDir, addresses: Addresses
) -> dict[str, str]:
    """What one process gets on top of the machine's part."""
    if role.service is not None:
        return {
            **_of_service(role.service, settings, data, addresses),
            **(_of_background(role, data) if role.kind is Kind.WORKER else {}),
        }
    if role.kind is Kind.RELAY:
        return {
            "DATABASE_URL": addresses.database_url,
            "BROKER_URL": addresses.broker_url,
            **_common(settings),
            **_of_background(role, data),
        }
    if role.kind is Kind.SIMULATOR:
        return {"LOG_LEVEL": settings.log_level}
    if role.kind is Kind.OTHER:
        return {"PORT": str(addresses.ports[role.name])}
    return {}


def ready_file(role: Role, data: DataDir) -> Path:
    """The file that a process without a port makes as soon as it does its work."""
    return data.run / f"{role.name}.ready"


def vendor_urls(settings: Settings, addresses: Addresses) -> dict[str, str]:
    """Where the vendors are: the real ones, or the simulator in their place."""
    if not settings.sandbox or "simulator" not in addresses.ports:
        return dict(settings.vendor_urls)
    simulator = addresses.of("simulator")
    has_own = COMPATIBLE_URL in settings.vendor_urls
    return {
        **({COMPATIBLE_URL: f"{simulator}/openai/v1"} if has_own else {}),
        "PROVIDER_OPENAI_URL": f"{simulator}/openai/v1",
        "PROVIDER_ANTHROPIC_URL": f"{simulator}/anthropic",
        "PROVIDER_GEMINI_URL": f"{simulator}/gemini",
        "PROVIDER_ELEVENLABS_URL": f"{simulator}/elevenlabs",
    }


def _of_service(
    service: str, settings: Settings, data: DataDir, addresses: Addresses
) -> dict[str, str]:
    variables = {
        "DATABASE_URL": addresses.database_url,
        "CACHE_URL": addresses.cache_url,
        "BROKER_URL": addresses.broker_url,
        "TOKEN_ISSUER": settings.token_issuer,
        "TOKEN_AUDIENCE": settings.token_audience,
        "IDENTITY_KEY_FILE": str(data.identity_key(service)),
        "IDENTITY_TRUST_FILE": str(data.trusted_identities),
        **_common(settings),
        **_peers(addresses),
    }
    if service in ("chat", "voice") and "egress" in addresses.ports:
        variables["EGRESS_URL"] = addresses.of("egress")
    if service == "chat":
        variables |= _own_models(settings, addresses)
    if service == "keyvault":
        variables |= vendor_urls(settings, addresses)
        variables |= _own_key(settings, addresses)
    if service == "auth":
        variables["AUTH_PEERS_HEALTH"] = _health_of_peers(addresses)
    variables |= _key_file(service, data)
    # The service's own settings, which the operator names with the service's prefix.
    own = {k: v for k, v in settings.inherited.items() if k.startswith(f"{service.upper()}_")}
    if service == "chat" and len(instances(service, addresses.ports)) > 1:
        own = _paced() | own
    if service == "auth":
        own = _mail(settings, data) | own
    if service == "billing":
        # AWS's: what opens the bucket that exports are put into.
        prefixes = ("STRIPE_", _OF_AWS)
        own |= {k: v for k, v in settings.inherited.items() if k.startswith(prefixes)}
    return own | variables


def _key_file(service: str, data: DataDir) -> dict[str, str]:
    """Where the keys lie that a service itself has."""
    match service:
        case "auth":
            return {"AUTH_SIGNING_KEYS_FILE": str(data.signing_keys)}
        case "keyvault":
            return {"KEYVAULT_KEYRING_FILE": str(data.keyring)}
        case "voice":
            return {"VOICE_CACHE_KEYS_FILE": str(data.utterance_keys)}
        case "billing":
            return {"BILLING_WEBHOOK_KEYS_FILE": str(data.webhook_keys)}
    return {}


def _health_of_peers(addresses: Addresses) -> str:
    return json.dumps(
        {
            name: addresses.of(internal(name)) + "/readyz"
            for service in SERVICES
            for name in instances(service, addresses.ports)
            if name != "auth"
        }
    )


def _paced() -> dict[str, str]:
    """The pace of tiers that nobody pays for, so that their bursts are not felt in others."""
    unpaid = [tier.name for tier in TIERS.values() if not tier.is_paid]
    return {"CHAT_TURNS_PER_SECOND": ",".join(f"{name}={_UNPAID_PER_SECOND}" for name in unpaid)}


def _own_models(settings: Settings, addresses: Addresses) -> dict[str, str]:
    """What chat knows of the operator's own server: that there is one, and what it has."""
    told = {**settings.inherited, **vendor_urls(settings, addresses)}
    return {name: told[name] for name in (COMPATIBLE_URL, _OWN_MODELS) if name in told}


def _own_key(settings: Settings, addresses: Addresses) -> dict[str, str]:
    """The operator's key for that server, which the simulator never sees."""
    simulated = settings.sandbox and "simulator" in addresses.ports
    key = _SIMULATED_KEY if simulated else settings.inherited.get(_OWN_KEY)
    return {_OWN_KEY: key} if key else {}


def _mail(settings: Settings, data: DataDir) -> dict[str, str]:
    """Unless the operator has a mail server, mails are files beside the rest of our data."""
    folder = {} if "AUTH_SMTP_URL" in settings.inherited else {"AUTH_MAIL_FOLDER": str(data.mail)}
    return {"AUTH_PUBLIC_URL": f"http://{LOOPBACK}:{settings.port}", **folder}


def _common(settings: Settings) -> dict[str, str]:
    chosen = {k: settings.inherited[k] for k in _OF_ALL_SERVICES if k in settings.inherited}
    traces = {k: v for k, v in settings.inherited.items() if k.startswith(_OF_TRACES)}
    sandbox = {"SANDBOX": "1"} if settings.sandbox else {}
    return {"LOG_LEVEL": settings.log_level, **sandbox, **traces, **chosen}


def _peers(addresses: Addresses) -> dict[str, str]:
    # Whichever instance: they are alike but for whom they serve.
    urls = {
        f"{service.upper()}_INTERNAL_URL": addresses.of(internal(names[0]))
        for service in SERVICES
        if (names := instances(service, addresses.ports))
    }
    if "auth" in addresses.ports:
        urls["JWKS_URL"] = addresses.of("auth") + "/.well-known/jwks.json"
    return urls


def _of_background(role: Role, data: DataDir) -> dict[str, str]:
    variables = {"READY_FILE": str(ready_file(role, data))}
    if role.kind is Kind.WORKER:
        # Celery then treats TERM as a wish to finish the task at hand within its grace period.
        variables["REMAP_SIGTERM"] = "SIGQUIT"
    return variables
