"""Each process is told what it needs and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.companion.data_dir import DataDir
from deploy.companion.environment import (
    Addresses,
    environment_of,
    machine_environment,
    vendor_urls,
)
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.previous_run import RunRecord, write_record
from deploy.companion.programs import SERVICES, Role, internal
from deploy.companion.settings import Settings
from shared.settings.known import SECRETS
from shared.tiers import TIERS

DATA = DataDir(Path("/data"))
PORTS = {name: 20000 + i for i, name in enumerate([*SERVICES, *map(internal, SERVICES)])}
ADDRESSES = Addresses(
    database_url="postgresql://companion:secret@127.0.0.1:1",
    cache_url="redis://:secret@127.0.0.1:2/0",
    broker_url="redis://:secret@127.0.0.1:2/1",
    ports={**PORTS, "egress": 21000, "simulator": 21001, "gateway": 8080},
)


def told(name: str, **environment: str) -> dict[str, str]:
    settings = Settings.from_environment({"HOME": "/h", **environment})
    return environment_of(Role.of(name), settings=settings, data=DATA, addresses=ADDRESSES)


@pytest.mark.parametrize("name", ["postgres", "valkey", "egress", "gateway"])
def test_engines_and_proxies_get_no_secret(name: str) -> None:
    assert told(name) == {}


def test_a_run_is_seen_as_it_was_started_with_all_settings_of_ours() -> None:
    mine = {
        "CHAT_RETRIES": "3",
        "VOICE_MISSPELT": "1",
        "MODEL_OVERRIDES": "{}",
        "STRIPE_API_KEY_FILE": "/k",
        "OTEL_TRACES_SAMPLER": "always_on",
        "AWS_REGION": "x",
        "SANDBOX": "1",
    }
    of_the_command = {"COMPANION_BACKUP_PASSPHRASE": "p", "COMPANION_DATA_DIR": "/d"}
    of_one_process = {
        **dict.fromkeys(SECRETS - {"DATABASE_URL", "CACHE_URL", "BROKER_URL"}, "s"),
        "AWS_SECRET_ACCESS_KEY": "s",
        "OTEL_EXPORTER_OTLP_HEADERS": "s",
        "STRIPE_API_KEYS": "misspelt",
    }
    given = {**mine, **of_the_command, **of_one_process, "EDITOR": "vi"}
    choices = Settings.from_environment(given).choices
    assert mine.items() <= choices.items()
    assert not {"EDITOR", *of_the_command, *of_one_process} & choices.keys()
    assert choices["VOICE_DRAIN_SECONDS"] == choices["DATABASE_URL_FILE"] == ""
    shell = {"CHAT_RETRIES": "5", "VOICE_DRAIN_SECONDS": "7", "EDITOR": "ed"}
    seen = Settings.from_environment({**shell, **choices})
    assert seen.inherited == {**mine, "EDITOR": "ed"}


def test_the_next_run_takes_nothing_from_one_that_is_just_ending(tmp_path: Path) -> None:
    said = Settings.from_environment({"COMPANION_DATA_DIR": str(tmp_path), "LOG_LEVEL": "error"})
    data = DataDir(tmp_path)
    data.create()
    write_record(data, RunRecord.of_this_process("http://127.0.0.1:1", {"LOG_LEVEL": "debug"}))
    assert Installation.open(said).settings.log_level == "debug"
    assert Installation.as_said(said).settings.log_level == "error"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_reach_what_it_uses(name: str) -> None:
    variables = told(name)
    assert {"DATABASE_URL", "CACHE_URL", "BROKER_URL", "JWKS_URL"} <= variables.keys()
    assert variables["IDENTITY_KEY_FILE"] == f"/data/secrets/identity/{name}.pem"


def test_only_keyvault_knows_the_keyring() -> None:
    knowing = {name for name in SERVICES if "KEYVAULT_KEYRING_FILE" in told(name)}
    assert knowing == {"keyvault"}
    assert "KEYVAULT_KEYRING_FILE" in told("keyvault-worker")
    assert "KEYVAULT_KEYRING_FILE" not in told("relay")


def test_only_auth_knows_the_signing_keys() -> None:
    assert {name for name in SERVICES if "AUTH_SIGNING_KEYS_FILE" in told(name)} == {"auth"}


def test_mails_are_files_unless_there_is_a_mail_server() -> None:
    for name in ("auth", "auth-worker"):
        assert told(name)["AUTH_MAIL_FOLDER"] == "/data/mail"
        assert "AUTH_MAIL_FOLDER" not in told(name, AUTH_SMTP_URL="smtps://mail.example.com")
    assert told("auth", AUTH_MAIL_FOLDER="/elsewhere")["AUTH_MAIL_FOLDER"] == "/elsewhere"
    assert "AUTH_MAIL_FOLDER" not in told("chat")


def test_links_lead_to_the_gateway() -> None:
    assert told("auth")["AUTH_PUBLIC_URL"].startswith("http://127.0.0.1:")
    elsewhere = told("auth", AUTH_PUBLIC_URL="https://companion.example.com")
    assert elsewhere["AUTH_PUBLIC_URL"] == "https://companion.example.com"


def test_tokens_name_the_address_that_people_use() -> None:
    def issuer(**said: str) -> str:
        return Settings.from_environment({"PORT": "8123", **said}).token_issuer

    assert issuer() == "http://127.0.0.1:8123"
    assert issuer(AUTH_PUBLIC_URL="https://companion.example/") == "https://companion.example"
    said = {"AUTH_PUBLIC_URL": "https://companion.example", "TOKEN_ISSUER": "https://a.example/b"}
    assert issuer(**said) == "https://a.example/b"


def test_only_chat_and_voice_know_the_way_out() -> None:
    assert {name for name in SERVICES if "EGRESS_URL" in told(name)} == {"chat", "voice"}


def test_vendors_are_known_to_keyvault_alone() -> None:
    assert {name for name in SERVICES if "PROVIDER_OPENAI_URL" in told(name)} == {"keyvault"}


def test_own_settings_reach_their_own_service_only() -> None:
    assert told("chat", CHAT_POOL="9")["CHAT_POOL"] == "9"
    assert told("chat-worker", CHAT_POOL="9")["CHAT_POOL"] == "9"
    assert "CHAT_POOL" not in told("voice", CHAT_POOL="9")


def test_the_free_tier_has_a_pace_where_tiers_have_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "CHAT_TURNS_PER_SECOND"
    assert name not in told("chat")
    pools = {f"chat-{tier}{port}": 1 for tier in TIERS for port in ("", "-internal")}
    pooled = replace(ADDRESSES, ports={**ADDRESSES.ports, **pools})
    monkeypatch.setitem(globals(), "ADDRESSES", pooled)
    assert {told(f"chat-{tier}")[name] for tier in TIERS} == {"free=10"}
    assert told("chat-free", CHAT_TURNS_PER_SECOND="free=0")[name] == "free=0"
    assert name not in told("voice")


def test_an_operators_variable_does_not_move_the_keyring() -> None:
    variables = told("keyvault", KEYVAULT_KEYRING_FILE="/elsewhere")
    assert variables["KEYVAULT_KEYRING_FILE"] == "/data/secrets/keyvault-keyring.json"


def test_workers_and_relay_say_when_they_are_ready() -> None:
    assert told("chat-worker")["READY_FILE"] == "/data/run/chat-worker.ready"
    assert told("chat-worker")["REMAP_SIGTERM"] == "SIGQUIT"
    assert told("relay")["READY_FILE"] == "/data/run/relay.ready"
    assert "REMAP_SIGTERM" not in told("relay")


def test_the_relay_has_database_and_broker_but_no_identity() -> None:
    variables = told("relay")
    assert {"DATABASE_URL", "BROKER_URL"} <= variables.keys()
    assert "IDENTITY_KEY_FILE" not in variables
    assert "CACHE_URL" not in variables


def test_the_sandbox_replaces_all_vendors() -> None:
    settings = Settings.from_environment(
        {"SANDBOX": "1", "PROVIDER_OPENAI_URL": "https://real.example/v1"}
    )
    assert vendor_urls(settings, ADDRESSES) == {
        "PROVIDER_OPENAI_URL": "http://127.0.0.1:21001/openai/v1",
        "PROVIDER_ANTHROPIC_URL": "http://127.0.0.1:21001/anthropic",
        "PROVIDER_GEMINI_URL": "http://127.0.0.1:21001/gemini",
        "PROVIDER_ELEVENLABS_URL": "http://127.0.0.1:21001/elevenlabs",
    }


def test_without_the_sandbox_the_operator_names_the_vendors() -> None:
    settings = Settings.from_environment({"PROVIDER_OPENAI_URL": "https://mine.example/v1"})
    urls = vendor_urls(settings, ADDRESSES)
    assert urls["PROVIDER_OPENAI_URL"] == "https://mine.example/v1"
    assert urls["PROVIDER_ANTHROPIC_URL"] == "https://api.anthropic.com"


OWN = {
    "PROVIDER_COMPATIBLE_URL": "http://127.0.0.1:11434/v1",
    "COMPATIBLE_MODELS": '{"*": ["llama"]}',
    "COMPATIBLE_API_KEY": "key-of-the-operator",
}


def test_an_operators_own_server_is_known_to_chat_and_its_key_to_keyvault_alone() -> None:
    def knowing(name: str) -> set[str]:
        return {role for role in (*SERVICES, "chat-worker", "relay") if name in told(role, **OWN)}

    assert knowing("PROVIDER_COMPATIBLE_URL") == {"chat", "chat-worker", "keyvault"}
    assert knowing("COMPATIBLE_MODELS") == {"chat", "chat-worker"}
    assert knowing("COMPATIBLE_API_KEY") == {"keyvault"}
    assert not OWN.keys() & told("keyvault").keys()
    settings = Settings.from_environment(OWN)
    assert vendor_urls(settings, ADDRESSES)["PROVIDER_COMPATIBLE_URL"].endswith(":11434/v1")


def test_the_sandbox_replaces_an_operators_own_server_and_never_shows_its_key() -> None:
    simulated = "http://127.0.0.1:21001/openai/v1"
    for service in ("chat", "keyvault"):
        assert told(service, SANDBOX="1", **OWN)["PROVIDER_COMPATIBLE_URL"] == simulated
    key = told("keyvault", SANDBOX="1", **OWN)["COMPATIBLE_API_KEY"]
    assert key != OWN["COMPATIBLE_API_KEY"]


def test_what_all_processes_share_is_a_short_list() -> None:
    shared = machine_environment({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "TZ": "UTC"})
    assert shared == {"PATH": "/bin", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "eighty"), ("PORT", "70000"), ("SANDBOX", "maybe"), ("BROKER_URL", "kafka://h")],
)
def test_a_wrong_setting_is_named_in_a_sentence(name: str, value: str) -> None:
    with pytest.raises(CompanionError, match=name):
        Settings.from_environment({name: value})


def test_a_url_with_a_password_is_never_repeated() -> None:
    with pytest.raises(CompanionError) as caught:
        Settings.from_environment({"DATABASE_URL": "mysql://u:hunter2@h"})
    assert "hunter2" not in str(caught.value)
    settings = Settings.from_environment({"DATABASE_URL": "postgresql://u:hunter2@h"})
    assert "hunter2" not in repr(settings)


def test_an_empty_variable_counts_as_unset() -> None:
    settings = Settings.from_environment({"DATABASE_URL": "", "BROKER_URL": "amqp://h"})
    assert settings.embeds_postgres
    assert settings.embeds_valkey
    outside = {"CACHE_URL": "redis://h", "BROKER_URL": "amqp://h"}
    assert not Settings.from_environment(outside).embeds_valkey
