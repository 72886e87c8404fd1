"""What may differ per deployment of auth."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from services.auth.domain.attempts import AskingLimit, AttemptLimit, CeilingPerMinute, GuessLimits
from services.auth.domain.errors import InvalidEmail
from services.auth.domain.key_rotation import RotationPace
from services.auth.domain.mail_server import MailServer
from services.auth.domain.user import EmailAddress
from shared.settings import CommonSettings, EnvironmentSettings, HttpUrl

_AN_HOUR = timedelta(hours=1)
_TRIES_PER_ACCOUNT = 10
# How far clocks may be apart, and how late a process takes a changed file.
_SLACK_SECONDS = 30
# Argon2id's least acceptable memory by passes, in KiB (OWASP ASVS 5.0, appendix C).
_LEAST_MEMORY_KIB = {1: 47_104, 2: 19_456, 3: 12_288}


class SigningKeySettings(EnvironmentSettings):
    """Where the signing keys are and how fast they may change; all that `companion auth` needs."""

    signing_keys_file: Path | None = Field(None, validation_alias="AUTH_SIGNING_KEYS_FILE")
    # The gateway and the services keep our public keys for a minute.
    signing_key_publish_seconds: int = Field(
        300, validation_alias="AUTH_SIGNING_KEY_PUBLISH_SECONDS", ge=0, le=7 * 86_400
    )
    # The life of an access token, the skew of clocks, and that minute.
    signing_key_retire_seconds: int = Field(
        1200, validation_alias="AUTH_SIGNING_KEY_RETIRE_SECONDS", ge=0, le=7 * 86_400
    )

    @property
    def rotation_pace(self) -> RotationPace:
        """How long a key is shown before it signs, and kept after it has signed."""
        return RotationPace(
            published_first=timedelta(seconds=self.signing_key_publish_seconds),
            kept=timedelta(seconds=self.signing_key_retire_seconds),
        )


class Settings(SigningKeySettings, CommonSettings):
    """What may differ per deployment of auth."""

    # The gateway lets no token live longer than 20 minutes.
    access_token_minutes: int = Field(15, validation_alias="AUTH_ACCESS_TOKEN_MINUTES", ge=1, le=15)
    refresh_idle_days: int = Field(14, validation_alias="AUTH_REFRESH_IDLE_DAYS", ge=1, le=90)
    refresh_absolute_days: int = Field(
        90, validation_alias="AUTH_REFRESH_ABSOLUTE_DAYS", ge=1, le=365
    )
    refresh_grace_seconds: int = Field(
        10, validation_alias="AUTH_REFRESH_GRACE_SECONDS", ge=0, le=60
    )

    argon2_passes: int = Field(3, validation_alias="AUTH_ARGON2_PASSES", ge=1, le=20)
    argon2_memory_kib: int = Field(
        65_536, validation_alias="AUTH_ARGON2_MEMORY_KIB", ge=32, le=1 << 20
    )
    argon2_lanes: int = Field(4, validation_alias="AUTH_ARGON2_LANES", ge=1, le=16)
    passwords_at_once: int = Field(2, validation_alias="AUTH_PASSWORDS_AT_ONCE", ge=1, le=32)
    passwords_waiting: int = Field(64, validation_alias="AUTH_PASSWORDS_WAITING", ge=0, le=1000)

    login_failures: int = Field(5, validation_alias="AUTH_LOGIN_FAILURES", ge=1, le=100)
    login_window_minutes: int = Field(
        15, validation_alias="AUTH_LOGIN_WINDOW_MINUTES", ge=1, le=24 * 60
    )
    login_first_delay_seconds: int = Field(
        30, validation_alias="AUTH_LOGIN_FIRST_DELAY_SECONDS", ge=1, le=3600
    )
    login_longest_delay_seconds: int = Field(
        900, validation_alias="AUTH_LOGIN_LONGEST_DELAY_SECONDS", ge=1, le=24 * 3600
    )
    login_failures_network: int = Field(
        30, validation_alias="AUTH_LOGIN_FAILURES_NETWORK", ge=1, le=1_000_000
    )
    login_failures_global: int = Field(
        1000, validation_alias="AUTH_LOGIN_FAILURES_GLOBAL", ge=1, le=10_000_000
    )
    registrations_network: int = Field(
        100, validation_alias="AUTH_REGISTRATIONS_NETWORK", ge=1, le=1_000_000
    )
    resets_network: int = Field(30, validation_alias="AUTH_RESETS_NETWORK", ge=1, le=1_000_000)
    # What an authenticator app shows above the codes.
    totp_issuer: str = Field(
        "ToolTip Companion", validation_alias="AUTH_TOTP_ISSUER", min_length=1, max_length=60
    )

    # Where browsers reach us: the base of links in mails and of the OAuth endpoints.
    public_url: str = Field("http://127.0.0.1:8080", validation_alias="AUTH_PUBLIC_URL")

    # A sorted list of SHA-1 hashes, as the downloader of Have I Been Pwned writes it.
    breached_passwords_file: Path | None = Field(
        None, validation_alias="AUTH_BREACHED_PASSWORDS_FILE"
    )
    require_verified_email: bool = Field(False, validation_alias="AUTH_REQUIRE_VERIFIED_EMAIL")

    # Mails go to one of these two. With neither they wait.
    mail_folder: Path | None = Field(None, validation_alias="AUTH_MAIL_FOLDER")
    smtp_url: SecretStr | None = Field(None, validation_alias="AUTH_SMTP_URL")
    mail_from: str = Field("companion@companion.invalid", validation_alias="AUTH_MAIL_FROM")
    mails_per_hour: int = Field(5, validation_alias="AUTH_MAILS_PER_HOUR", ge=1, le=1000)

    # Where the others tell whether they are ready, by name: {"chat": "http://…/readyz"}.
    peers_health: dict[str, HttpUrl] = Field(
        default_factory=dict, validation_alias="AUTH_PEERS_HEALTH"
    )
    # Their internal ports, asked for what they keep about a user who wants it all.
    keyvault_internal_url: HttpUrl | None = Field(None, validation_alias="KEYVAULT_INTERNAL_URL")
    chat_internal_url: HttpUrl | None = Field(None, validation_alias="CHAT_INTERNAL_URL")
    voice_internal_url: HttpUrl | None = Field(None, validation_alias="VOICE_INTERNAL_URL")
    billing_internal_url: HttpUrl | None = Field(None, validation_alias="BILLING_INTERNAL_URL")

    @model_validator(mode="after")
    def _passwords_are_hashed_well(self) -> Self:
        least = _LEAST_MEMORY_KIB[min(self.argon2_passes, 3)]
        if self.argon2_memory_kib < least and self.environment != "test":
            raise ValueError(
                f"AUTH_ARGON2_MEMORY_KIB must be {least} or more with this many passes"
            )
        return self

    @model_validator(mode="after")
    def _keys_outlive_their_tokens(self) -> Self:
        least = self.access_token_minutes * 60 + _SLACK_SECONDS
        if self.signing_key_retire_seconds < least and self.environment != "test":
            raise ValueError(
                f"AUTH_SIGNING_KEY_RETIRE_SECONDS must be {least} or more with tokens of this life"
            )
        return self

    @property
    def guess_limits(self) -> GuessLimits:
        """How often a secret may be guessed."""
        account = AttemptLimit(
            self.login_failures,
            timedelta(minutes=self.login_window_minutes),
            timedelta(seconds=self.login_first_delay_seconds),
            timedelta(seconds=self.login_longest_delay_seconds),
        )
        return GuessLimits(
            account=account,
            network=replace(account, failures=self.login_failures_network),
            everybody=CeilingPerMinute(self.login_failures_global),
        )

    @property
    def most_registrations(self) -> AskingLimit:
        """How many accounts one network may open."""
        return AskingLimit(self.registrations_network, _AN_HOUR)

    @property
    def most_registration_tries(self) -> AskingLimit:
        """How often it may try to: with passwords and usernames that are refused."""
        return AskingLimit(self.registrations_network * _TRIES_PER_ACCOUNT, _AN_HOUR)

    @property
    def most_resets(self) -> AskingLimit:
        """How many forgotten passwords one network may have."""
        return AskingLimit(self.resets_network, _AN_HOUR)

    @property
    def peers_internal(self) -> dict[str, str | None]:
        """The base URL of each peer's internal port."""
        return {
            "keyvault": self.keyvault_internal_url,
            "chat": self.chat_internal_url,
            "voice": self.voice_internal_url,
            "billing": self.billing_internal_url,
        }

    @model_validator(mode="after")
    def _people_reach_us_safely(self) -> Self:
        try:
            parts = urlsplit(self.public_url)
        except ValueError:  # brackets that do not match
            parts = urlsplit("")
        here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        # A password is typed there; only on the machine itself can nobody listen.
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and here)):
            raise ValueError("AUTH_PUBLIC_URL must be an https URL, or an http one of loopback")
        return self

    @field_validator("mail_from")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        try:
            return EmailAddress.parse(text).text
        except InvalidEmail as error:
            raise ValueError("AUTH_MAIL_FROM must be one e-mail address") from error

    @model_validator(mode="after")
    def _mails_go_one_way(self) -> Self:
        if self.mail_folder is not None and self.smtp_url is not None:
            raise ValueError("set AUTH_MAIL_FOLDER or AUTH_SMTP_URL, not both")
        if self.smtp_url is not None and "mail_from" not in self.model_fields_set:
            raise ValueError("AUTH_MAIL_FROM is needed with AUTH_SMTP_URL")
        self.mail_server  # noqa: B018 - a wrong URL is told at the start
        return self

    @property
    def mail_server(self) -> MailServer | None:
        """The server of `AUTH_SMTP_URL`."""
        if self.smtp_url is None:
            return None
        try:
            return MailServer.parse(self.smtp_url.get_secret_value())
        except ValueError as error:
            raise ValueError(f"AUTH_SMTP_URL: {error}") from error

    @property
    def access_lifetime(self) -> timedelta:
        """How long an access token is good."""
        return timedelta(minutes=self.access_token_minutes)
