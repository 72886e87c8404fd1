"""Whether a new password is good enough, off the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.auth.domain.errors import PasswordRefused
from services.auth.domain.guessing import guesses_for
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, check_strength
from services.auth.domain.user import EmailAddress, Username
from services.auth.providers.breached_passwords import BreachedPasswords
from services.auth.providers.fair_gate import FairGate

# What an attacker tries in an hour against a service that slows them down, many times over.
_FEWEST_GUESSES = 1_000_000
_MOST_UNDER_WAY = 65
_PRODUCT = ("tooltip", "companion")


class JudgedPasswords:
    """The rules of the domain, then the list of breached passwords, then an estimate of guesses.

    One thread: the estimate is all Python, so that a second thread would only take turns with it.
    """

    def __init__(self, breached: Path | None) -> None:
        """Raises UnusableBreachedList."""
        self._breached = BreachedPasswords(breached) if breached is not None else None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="password-rules")
        self._gate = FairGate(_MOST_UNDER_WAY)

    async def check(
        self, password: Password, *, email: EmailAddress, username: Username, origin: Origin
    ) -> None:
        """Raises PasswordRefused or PasswordsBusy."""
        check_strength(password, email_local_part=email.local_part, username=username.text)
        self._gate.enter(origin)
        about = (email.local_part, username.text, *_PRODUCT)
        future = asyncio.get_running_loop().run_in_executor(
            self._threads, self._judge, password.text, about
        )
        future.add_done_callback(lambda done: self._leave(done, origin))
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

    def _leave(self, future: asyncio.Future[None], origin: Origin) -> None:
        self._gate.leave(origin)
        if not future.cancelled():
            future.exception()  # Looked at, should nobody be waiting for it any more.
