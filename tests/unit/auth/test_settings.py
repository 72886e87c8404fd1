"""Settings: a floor under the cost of a password, and what a deployment may say."""

from datetime import timedelta

import pytest

from services.auth.settings import Settings
from shared.settings import SettingsRefused

NEEDED = {
    "DATABASE_URL": "postgresql://companion:pw@127.0.0.1/",
    "CACHE_URL": "redis://127.0.0.1/0",
    "BROKER_URL": "redis://127.0.0.1/1",
    "JWKS_URL": "http://127.0.0.1/.well-known/jwks.json",
    "IDENTITY_KEY_FILE": "/run/identity.pem",
    "IDENTITY_TRUST_FILE": "/run/trusted.json",
}


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    monkeypatch.delenv("COMPANION_ENVIRONMENT", raising=False)
    for name, value in {**NEEDED, **values}.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def test_the_defaults_are_what_the_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    known = settings(monkeypatch)
    assert (known.argon2_passes, known.argon2_memory_kib, known.argon2_lanes) == (3, 65_536, 4)
    assert known.access_lifetime == timedelta(minutes=15)
    assert (known.passwords_at_once, known.signing_keys_file, known.peers_health) == (2, None, {})


@pytest.mark.parametrize(
    ("passes", "memory_kib", "good"),
    [
        ("1", "47104", True),
        ("1", "47103", False),
        ("2", "19456", True),
        ("2", "19455", False),
        ("3", "12288", True),
        ("3", "12287", False),
        ("9", "12287", False),
    ],
)
def test_cheap_hashes_are_for_tests_only(
    monkeypatch: pytest.MonkeyPatch, passes: str, memory_kib: str, good: bool
) -> None:
    values = {"AUTH_ARGON2_PASSES": passes, "AUTH_ARGON2_MEMORY_KIB": memory_kib}
    for environment in ("development", "production", ""):
        if good:
            settings(monkeypatch, **values, COMPANION_ENVIRONMENT=environment)
        else:
            with pytest.raises(SettingsRefused):
                settings(monkeypatch, **values, COMPANION_ENVIRONMENT=environment)
    known = settings(monkeypatch, **values, COMPANION_ENVIRONMENT="test")
    assert known.argon2_memory_kib == int(memory_kib)


def test_a_signing_key_is_kept_for_longer_than_its_tokens_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = settings(monkeypatch).rotation_pace
    assert (pace.published_first, pace.kept) == (timedelta(minutes=5), timedelta(minutes=20))
    for minutes, seconds, good in ((15, 930, True), (15, 929, False), (5, 330, True)):
        values = {
            "AUTH_ACCESS_TOKEN_MINUTES": str(minutes),
            "AUTH_SIGNING_KEY_RETIRE_SECONDS": str(seconds),
        }
        if good:
            assert settings(monkeypatch, **values).rotation_pace.kept.total_seconds() == seconds
        else:
            with pytest.raises(SettingsRefused):
                settings(monkeypatch, **values)


def test_peers_are_given_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    known = settings(monkeypatch, AUTH_PEERS_HEALTH='{"chat": "http://127.0.0.1:9/readyz"}')
    assert known.peers_health == {"chat": "http://127.0.0.1:9/readyz"}


def test_no_token_outlives_what_the_gateway_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsRefused):
        settings(monkeypatch, AUTH_ACCESS_TOKEN_MINUTES="16")
