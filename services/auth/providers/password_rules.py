"""Whether a new password is good enough, off the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.auth.domain.errors import PasswordRefused, PasswordsBusy
from services.auth.domain.guessing import guesses_for
from services.auth.domain.password import Password, check_strength
from services.auth.domain.user import EmailAddress, Username
from services.auth.providers.breached_passwords import BreachedPasswords

# What an attacker tries in an hour against a service that slows them down, many times over.
_FEWEST_GUESSES = 1_000_000
_MOST_WAITING = 64
_PRODUCT = ("tooltip", "companion")


class JudgedPasswords:
    """The rules of the domain, then the list of breached passwords, then an estimate of guesses.

    One thread: the estimate is all Python, so that a second thread would only take turns with it.
    """

    def __init__(self, breached: Path | None) -> None:
        """Raises UnusableBreachedList."""
        self._breached = BreachedPasswords(breached) if breached is not None else None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="password-rules")
        self._under_way = 0

    async def check(self, password: Password, *, email: EmailAddress, username: Username) -> None:
        """Raises PasswordRefused or PasswordsBusy."""
        check_strength(password, email_local_part=email.local_part, username=username.text)
        if self._under_way > _MOST_WAITING:
            raise PasswordsBusy
        self._under_way += 1
        about = (email.local_part, username.text, *_PRODUCT)
        future = asyncio.get_running_loop().run_in_executor(
            self._threads, self._judge, password.text, about
        )
        future.add_done_callback(self._one_less)
        await future

    def close(self) -> None:
        """Let the thread go once it is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _judge(self, text: str, about: tuple[str, ...]) -> None:
        if self._breached is not None and text in self._breached:
            raise PasswordRefused("breached", "This password is known from a breach elsewhere.")
        if guesses_for(text, about=about) < _FEWEST_GUESSES:
            raise PasswordRefused(
                "guessable", "This password is easily guessed. Use more words, or rarer ones."
            )

    def _one_less(self, future: asyncio.Future[None]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # Looked at, should nobody be waiting for it any more.
