"""The line to the vendor over which one live speech is spoken, and the format of its audio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from uuid import UUID

import structlog

from services.voice.domain.audio_format import AudioFormat, depends_on_plan
from services.voice.domain.formats_in_plan import FormatsInPlan
from services.voice.domain.piece import Piece
from services.voice.domain.ports import LiveProvider, LiveVoice
from services.voice.domain.script import Manner, others_for
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.revocation import KeyOfCall
from shared.tiers import Tier
from shared.vendors.failures import VendorFailed, VendorPlanRequired

log = structlog.get_logger(__name__)


class LiveLine:
    """Opened once, ahead of the first words or for them; in another format than the wished one
    where the user's plan at the vendor does not make that. `is_strict`: rather not at all."""

    def __init__(
        self,
        provider: LiveProvider,
        formats: FormatsInPlan,
        manner: Manner,
        tier: Tier,
        *,
        user_id: UserId,
        is_strict: bool,
    ) -> None:
        self._provider = provider
        self._formats = formats
        self._wished = manner.format
        self._user_id = user_id
        self._is_strict = is_strict
        self._stack = AsyncExitStack()
        self._opening: asyncio.Task[LiveVoice] | None = None
        self._key: KeyOfCall | None = None
        self.manner = manner
        self.tier = tier  # by which other formats are looked for
        if not is_strict:
            # Who wants one format or nothing may have another plan by now.
            self._speak_in(formats.known(user_id, manner.format))

    @property
    def wished_format(self) -> AudioFormat | None:
        """The one that the user's plan at the vendor does not make; None where it is given."""
        return None if self.manner.format == self._wished else self._wished

    @property
    def is_asked_for(self) -> bool:
        """Whether it is open, or being opened."""
        return self._opening is not None

    @property
    def organisation_id(self) -> UUID | None:
        """On whose key it runs, where it is not the user's own."""
        return self._key.organisation(self._user_id) if self._key is not None else None

    def ask_for(self, by: OnBehalfOf) -> None:
        """Begin to open it. A failure is raised by `opened`."""
        self._opening = asyncio.create_task(self._open(by))

    def raise_failure(self) -> None:
        """Raises why it did not come about, if that is known."""
        if self._opening is not None and self._opening.done():
            self._opening.result()

    async def opened(self) -> LiveVoice:
        """Once it is. Raises what LiveProvider raises."""
        assert self._opening is not None, "somebody asked for it"
        return await asyncio.shield(self._opening)

    @property
    def is_format_settled(self) -> bool:
        """Whether it is known in which format it is, where that depends on the user's plan."""
        is_opening = self._opening is not None and not self._opening.done()
        return not (is_opening and depends_on_plan(self.manner.format))

    async def format_settled(self) -> None:
        """Once it is."""
        if self._opening is not None and not self.is_format_settled:
            await asyncio.wait({self._opening})

    async def hear(self, voice: LiveVoice) -> Piece:
        """The next audio. Raises what LiveVoice raises."""
        try:
            return await voice.read()
        except VendorPlanRequired as refused:
            # Told over the open line it comes too late for this speech, and not for the next one.
            for format_ in self._other_formats(refused)[:1]:
                self._remember(format_)
            raise

    def remember_format(self) -> None:
        """Audio came in it: the user's plan makes it."""
        self._remember(self.manner.format)

    async def close(self, speech_id: UUID) -> None:
        """It may be asked for again."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})
            # Looked at, so that nobody misses it: it was told when words were said, if any were.
            _ = opening.cancelled() or opening.exception()
        try:
            with suppress(VendorFailed):  # whoever read has heard of it
                await self._stack.aclose()
        except Exception:
            # Whoever closes it goes on all the same: what was said is settled.
            log.exception("line_not_closed", speech_id=str(speech_id))

    async def _open(self, by: OnBehalfOf) -> LiveVoice:
        try:
            # Which does not tell yet that the format comes: see `hear`.
            return await self._open_once(by)
        except VendorPlanRequired as refused:
            voice = await self._open_in_another_format(refused, by)
        self.remember_format()
        return voice

    async def _open_once(self, by: OnBehalfOf) -> LiveVoice:
        by, self._key = by.for_call()
        return await self._stack.enter_async_context(self._provider.live(self.manner, by=by))

    async def _open_in_another_format(
        self, refused: VendorPlanRequired, by: OnBehalfOf
    ) -> LiveVoice:
        """As for a speech whose text is complete; nothing was said, so that nothing is charged."""
        wished = self.manner.format
        for format_ in self._other_formats(refused):
            self._speak_in(format_)
            with suppress(VendorPlanRequired):
                return await self._open_once(by)
        self._speak_in(wished)
        raise refused

    def _other_formats(self, refused: VendorPlanRequired) -> Sequence[AudioFormat]:
        return () if self._is_strict else others_for(refused, self.manner.format, self.tier)

    def _remember(self, given: AudioFormat) -> None:
        self._formats.remember(self._user_id, self._wished, given)

    def _speak_in(self, format_: AudioFormat) -> None:
        self.manner = replace(self.manner, format=format_)
