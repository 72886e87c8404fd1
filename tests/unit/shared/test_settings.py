"""What a process says that can't start as it was set, and secrets that are files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from services.auth.settings import Settings as AuthSettings
from services.billing.settings import Settings as BillingSettings
from services.chat.settings import Settings as ChatSettings
from services.keyvault.settings import Settings as KeyvaultSettings
from services.voice.settings import Settings as VoiceSettings
from shared.identity import Peers, ServiceIdentity
from shared.settings import CommonSettings, EnvironmentSettings, SettingsRefused
from shared.settings.secret_files import LARGEST_FILE, is_secret, name_of
from shared.settings.unknown import unknown_settings

SERVICES = (AuthSettings, BillingSettings, ChatSettings, KeyvaultSettings, VoiceSettings)
NEEDED = {
    "DATABASE_URL": "postgresql://ada:s3cret@127.0.0.1:1",
    "CACHE_URL": "redis://127.0.0.1:1/0",
    "BROKER_URL": "amqp://ada:s3cret@127.0.0.1:1//",
    "JWKS_URL": "http://127.0.0.1:1/jwks.json",
    "IDENTITY_KEY_FILE": "/k",
    "IDENTITY_TRUST_FILE": "/t",
    "KEYVAULT_KEYRING_FILE": "/keyring",
    "EGRESS_URL": "http://127.0.0.1:1",
}
MARK = "m4rk-nobody-may-see"


class Wanted(EnvironmentSettings):
    """A deployment's secrets."""

    secret: SecretStr = Field(validation_alias="A_SECRET")
    other: SecretStr | None = Field(None, validation_alias="ANOTHER_SECRET")
    keys_file: Path | None = Field(None, validation_alias="A_KEYS_FILE")


@pytest.fixture(autouse=True)
def needed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def refusal(kind: type[EnvironmentSettings]) -> str:
    with pytest.raises(SettingsRefused) as refused:
        kind.from_environment()
    return str(refused.value)


def a_file(folder: Path, content: bytes) -> Path:
    file = folder / "secret"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\n\n", "hunter2\n"),
        (b" hunter2 ", " hunter2 "),
        ("gr\u00fc\u00dfe\n".encode(), "gr\u00fc\u00dfe"),
        (b"x" * LARGEST_FILE, "x" * LARGEST_FILE),
    ],
)
def test_a_secret_may_be_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, secret: str
) -> None:
    monkeypatch.setenv("A_SECRET_FILE", str(a_file(tmp_path, content)))
    monkeypatch.setenv("A_SECRET", "")
    monkeypatch.setenv("A_KEYS_FILE", "/keys")

    known = Wanted.from_environment()

    assert known.secret.get_secret_value() == secret
    assert (known.other, known.keys_file) == (None, Path("/keys"))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe", b"x" * (LARGEST_FILE + 1)], ids=["empty", "line", "8", "+"]
)
def test_a_file_that_holds_no_secret_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    file = a_file(tmp_path, content)
    monkeypatch.setenv("A_SECRET_FILE", str(file))
    sentence = refusal(Wanted)
    assert sentence.startswith(f"A_SECRET_FILE: {file} ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_file_that_is_not_there_or_no_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "nowhere", tmp_path, pipe):
        monkeypatch.setenv("ANOTHER_SECRET_FILE", str(path))
        assert refusal(Wanted).startswith(f"ANOTHER_SECRET_FILE: {path} ")


def test_a_secret_is_given_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_SECRET", MARK)
    monkeypatch.setenv("A_SECRET_FILE", str(a_file(tmp_path, b"other")))
    assert refusal(Wanted) == "A_SECRET and A_SECRET_FILE are both set; keep one of them."


def test_all_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("CACHE_URL", "")
    monkeypatch.setenv("SANDBOX", "perhaps")
    sentence = refusal(CommonSettings)
    assert sentence.startswith("DATABASE_URL and CACHE_URL are missing; SANDBOX: it should be ")


def test_every_services_secrets_may_be_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {}
    for kind in SERVICES:
        for field, info in kind.model_fields.items():
            if is_secret(info):
                found[name_of(info, field)] = kind, field
    assert found.keys() >= {
        *("DATABASE_URL", "CACHE_URL", "BROKER_URL", "AUTH_SMTP_URL", "KEYVAULT_KEYRING_JSON"),
        *("COMPATIBLE_API_KEY", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRETS"),
    }
    names = {name_of(i, f) for kind in SERVICES for f, i in kind.model_fields.items()}
    assert not {f"{name}_FILE" for name in found} & names
    for name, (kind, field) in found.items():
        if name in NEEDED:
            with monkeypatch.context() as patch:
                patch.delenv(name)
                patch.setenv(f"{name}_FILE", str(a_file(tmp_path, NEEDED[name].encode() + b"\n")))
                secret: Any = getattr(kind.from_environment(), field)
                assert secret.get_secret_value() == NEEDED[name]


# Free texts and places, which can't be wrong before they are used.
ANYTHING = {
    *("TOKEN_ISSUER", "TOKEN_AUDIENCE", "METRICS_HOST", "PROVIDER_COMPATIBLE_URL"),
    *("AUTH_TOTP_ISSUER", "COMPATIBLE_API_KEY", "KEYVAULT_KEYRING_JSON", "KEYVAULT_INSTALLATION"),
    *("KEYVAULT_TRANSIT_KEY", "KEYVAULT_TRANSIT_MOUNT", "KEYVAULT_TRANSIT_NAMESPACE"),
    *("KEYVAULT_KMS_REGION", "KEYVAULT_KMS_KEYS", "BILLING_FONT_FILES", "STRIPE_API_KEY"),
    *("STRIPE_WEBHOOK_SECRETS", "PROVIDER_URLS", "WORKER_TIER"),
}
# What else has to be set for a setting to be looked at.
TOGETHER = {
    "AUTH_SMTP_URL": {"AUTH_MAIL_FROM": "a@example.com"},
    "COMPATIBLE_MODELS": {"PROVIDER_COMPATIBLE_URL": "http://127.0.0.1:1/v1"},
    "STRIPE_API_KEY": {"STRIPE_RETURN_URL": "", "STRIPE_WEBHOOK_SECRETS": ""},
}


def settings_of(kind: type[EnvironmentSettings]) -> dict[str, Any]:
    return {name_of(info, field): info for field, info in kind.model_fields.items()}


@pytest.mark.parametrize("kind", SERVICES, ids=lambda kind: kind.__module__.split(".")[1])
def test_whatever_is_wrong_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, kind: type[EnvironmentSettings]
) -> None:
    looked_at = []
    for name, info in settings_of(kind).items():
        if name in ANYTHING or "Path" in str(info.annotation):
            continue
        with monkeypatch.context() as patch:
            for other, value in TOGETHER.get(name, {}).items():
                patch.setenv(other, value)
            patch.setenv(name, f"{MARK}:// {MARK}")
            sentence = refusal(kind)
        assert name in sentence, name
        assert MARK not in sentence, name
        assert sentence.endswith(".") and "\n" not in sentence, name
        looked_at.append(name)
    assert len(looked_at) > 10


def test_what_must_stand_together_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, values, name in (
        (BillingSettings, {"STRIPE_API_KEY": MARK}, "STRIPE_WEBHOOK_SECRETS"),
        (BillingSettings, {"BILLING_SELLER": '{"nam": "x"}'}, "BILLING_SELLER"),
        (KeyvaultSettings, {"KEYVAULT_KEYRING": "env"}, "KEYVAULT_KEYRING_JSON"),
        (KeyvaultSettings, {"COMPATIBLE_API_KEY": f"{MARK} "}, "COMPATIBLE_API_KEY"),
        (KeyvaultSettings, {"PROVIDER_GEMINI_URL": f"http://[{MARK}"}, "PROVIDER_GEMINI_URL"),
        (ChatSettings, {"MODEL_OVERRIDES": f'{{"{MARK}": "x"}}'}, "MODEL_OVERRIDES"),
        (AuthSettings, {"AUTH_PEERS_HEALTH": f'{{"chat": "{MARK}"}}'}, "AUTH_PEERS_HEALTH (chat)"),
        (AuthSettings, {"AUTH_PUBLIC_URL": f"http://[{MARK}"}, "AUTH_PUBLIC_URL"),
    ):
        with monkeypatch.context() as patch:
            for setting, value in values.items():
                patch.setenv(setting, value)
            sentence = refusal(kind)
        assert name in sentence
        assert MARK not in sentence


def test_a_misspelt_setting_is_reported_with_what_was_meant() -> None:
    assert unknown_settings(
        {
            "CHAT_RETRYS": "1",
            "AUTH_QUITE_ANOTHER_THING": "1",
            # Another service's, a secret as a file, a Service of Kubernetes, somebody else's.
            "BILLING_TRIAL_DAYS": "3",
            "STRIPE_API_KEY_FILE": "/run/secrets/stripe",
            "AUTH_SERVICE_HOST": "10.0.0.1",
            "CHAT_PRO_SERVICE_PORT_HTTP": "8000",
            "BILLING_PORT_8000_TCP_ADDR": "10.0.0.2",
            "DATABASE_POOL": "7",
            "HOME": "/",
        }
    ) == {"AUTH_QUITE_ANOTHER_THING": None, "CHAT_RETRYS": "CHAT_RETRIES"}
    # What is no secret is no file either.
    assert unknown_settings({"AUTH_MAIL_FROM_FILE": "/x"}) == {
        "AUTH_MAIL_FROM_FILE": "AUTH_MAIL_FROM"
    }


def test_where_settings_are_taken_strictly_one_that_is_unknown_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHAT_RETRYS", "1")
    assert ChatSettings.from_environment().retries == 2
    monkeypatch.setenv("COMPANION_STRICT_SETTINGS", "1")
    assert refusal(ChatSettings) == "Nobody knows the settings CHAT_RETRYS (CHAT_RETRIES?)."


def test_a_file_that_can_not_be_used_is_named_without_what_it_holds(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    for path, reason in ((tmp_path / "absent", "can't be read"), (key, "can't be used")):
        key.write_text(MARK)
        with pytest.raises(SettingsRefused, match=f"^IDENTITY_KEY_FILE: {path} {reason}") as one:
            ServiceIdentity.of_setting("chat", path)
        with pytest.raises(SettingsRefused, match=f"^IDENTITY_TRUST_FILE: {path} {reason}") as two:
            Peers.of_setting("chat", path)
        assert MARK not in f"{one.value}{two.value}"


def test_tiers_have_the_pace_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ChatSettings.from_environment().paces == {}
    for said, paces in {
        "": {},
        "free=20": {"free": 20.0},
        "free=0": {},
        " free = 0.5, pro=200 ,": {"free": 0.5, "pro": 200.0},
    }.items():
        monkeypatch.setenv("CHAT_TURNS_PER_SECOND", said)
        assert ChatSettings.from_environment().paces == paces


@pytest.mark.parametrize("name", ["CACHE_URL", "BROKER_URL"])
def test_a_socket_of_the_machine_is_no_valkey_of_ours(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener's connections are kept alive, and such a socket knows nothing of that."""
    monkeypatch.setenv(name, "unix:///run/valkey.sock")
    assert name in refusal(ChatSettings)


@pytest.mark.parametrize(
    "said",
    [MARK, f"{MARK}=1", f"free={MARK}", "free", "free=-1", "free=nan", "free=inf", "free=1,free=2"],
)
def test_a_pace_that_is_none_is_refused_and_not_shown(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_TURNS_PER_SECOND", said)
    refused = refusal(ChatSettings)
    assert "CHAT_TURNS_PER_SECOND" in refused
    assert "free=20" in refused
    assert MARK not in refused
