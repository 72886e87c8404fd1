"""The signing keys of auth, from the console: rotated, removed and listed without a database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deploy.companion.console_settings import deployment_folder
from deploy.companion.data_dir import DataDir
from deploy.companion.errors import CompanionError
from deploy.companion.service_settings import read_settings
from deploy.companion.settings import Settings as CompanionSettings
from services.auth.actions.remove_signing_key import RemoveSigningKey
from services.auth.actions.rotate_signing_key import RotateSigningKey
from services.auth.domain.key_rotation import (
    KeyLine,
    NoSuchSigningKey,
    RotationPace,
    StandbyTooYoung,
)
from services.auth.domain.signing_key import KeyState, SigningKey, UnusableSigningKeys
from services.auth.providers.signing_key_file import SigningKeyBook
from services.auth.settings import SigningKeySettings
from shared.clock import Clock, SystemClock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SigningKeyDesk:
    """What an operator may do with the file; each failure is one sentence."""

    path: Path
    pace: RotationPace
    clock: Clock

    @classmethod
    def open(cls, clock: Clock | None = None) -> SigningKeyDesk:
        """The deployment's file, the one that the environment names, or the data directory's."""
        settings = read_settings(SigningKeySettings)
        folder = deployment_folder()
        path = folder / "auth" / "signing_keys.json" if folder else settings.signing_keys_file
        if path is None:
            path = DataDir(CompanionSettings.from_environment().data_dir).signing_keys
        return cls(path, settings.rotation_pace, clock or SystemClock())

    def list(self) -> list[tuple[SigningKey, str]]:
        """Each key, and what happens to it next."""
        with self._told():
            line = self._book.read()
        return [(key, self._next(key, line)) for key in line.keys]

    def rotate(self) -> KeyLine:
        """Raises StandbyTooYoung, which a caller may wait for, or CompanionError."""
        with self._told():
            return RotateSigningKey(self._book, self.pace, self.clock)()

    def remove(self, kid: str) -> KeyLine:
        """Raises CompanionError."""
        with self._told():
            return RemoveSigningKey(self._book, self.pace, self.clock)(kid)

    @property
    def _book(self) -> SigningKeyBook:
        return SigningKeyBook(self.path)

    def _next(self, key: SigningKey, line: KeyLine) -> str:
        now = self.clock.now()
        match key.state:
            case KeyState.STANDBY:
                ready_at = line.ready_at(key, self.pace, now)
                when = "now" if ready_at <= now else f"from {shown(ready_at)}"
                return f"may sign {when}, at a rotation"
            case KeyState.ACTIVE:
                return "signs until the next rotation"
            case KeyState.RETIRING if key.is_published(now, kept=self.pace.kept):
                until = None if key.retired_at is None else key.retired_at + self.pace.kept
                return f"published until {shown(until)}"
            case _:
                return "no longer published; a later command takes it out of the file"

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UnusableSigningKeys as error:
            raise CompanionError(
                f"The signing keys in {self.path} can't be used: {error}.", _RESTORE
            ) from error
        except NoSuchSigningKey as error:
            raise CompanionError(
                f"There is no signing key {error}.", "See `companion auth signing-keys`."
            ) from error
        except FileNotFoundError as error:
            raise CompanionError(f"There are no signing keys at {self.path}.", _RESTORE) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise CompanionError(
                f"The signing keys in {self.path} can't be read or replaced: {reason}."
            ) from error


_RESTORE = "Restore the file from its backup; it is never made anew."


def shown(at: datetime | None) -> str:
    """A moment for a person."""
    return "an unknown time" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def told(line: KeyLine, pace: RotationPace) -> str:
    """What a change has led to."""
    standby = line.standby
    assert standby is not None
    sentences = [f"{line.active.kid} signs from now on."]
    sentences += [
        f"{key.kid} is published until {shown(key.retired_at + pace.kept)}."
        for key in line.keys
        if key.state is KeyState.RETIRING and key.retired_at is not None
    ]
    assert standby.published_at is not None
    ready_at = shown(standby.published_at + pace.published_first)
    return "\n".join([*sentences, f"{standby.kid} is published and may sign from {ready_at}."])


__all__ = ["SigningKeyDesk", "StandbyTooYoung", "shown", "told"]
