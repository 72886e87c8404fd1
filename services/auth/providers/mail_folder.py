"""Mails as files: for one machine, where whoever runs it hands them on or reads them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import structlog

from services.auth.domain.letter import Letter, NotDelivered
from services.auth.providers.mail_message import to_wire
from shared.clock import Clock

log = structlog.get_logger(__name__)


class MailFolder:
    """Writes each letter to `<id>.eml`, whole or not at all, readable by its owner alone."""

    def __init__(self, folder: Path, *, sender: str, clock: Clock) -> None:
        self._folder = folder
        self._sender = sender
        self._clock = clock

    async def send(self, letter: Letter) -> None:
        """Raises NotDelivered or Undeliverable."""
        message = to_wire(letter, sender=self._sender, at=self._clock.now())
        try:
            await asyncio.to_thread(_write, self._folder, f"{letter.id}.eml", bytes(message))
        except OSError as error:
            reason = f"AUTH_MAIL_FOLDER: {error.strerror}"
            raise NotDelivered(reason, server_is_away=True) from error
        log.info("mail_written", kind=letter.kind, mail_id=str(letter.id))


def _write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{name}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as stream:
        os.fchmod(file, 0o600)
        stream.write(content)
        stream.flush()
        os.fsync(file)
    draft.replace(folder / name)
