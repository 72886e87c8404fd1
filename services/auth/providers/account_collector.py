"""Collects what every service keeps about a user into files that may outgrow memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO
from weakref import WeakSet, finalize

import httpx
import structlog

from services.auth.domain.errors import ExportUnavailable, TooManyExports
from shared.clock import rfc3339
from shared.errors import ExpectedFailure
from shared.identity import ServiceIdentity
from shared.ids import UserId
from shared.telemetry.tracing import calling

log = structlog.get_logger(__name__)

# For each of five parts: 8 MiB of memory in all, the rest on disk.
_IN_MEMORY_BYTES = 8 * 1024 * 1024 // 5
_CHUNK_BYTES = 64 * 1024
_PATIENCE_SECONDS = 20.0
# So that many who export at once can't fill memory and disk.
_AT_ONCE = 4
# A document keeps both until its reader has it all, and a reader may be slow.
_MOST_OPEN, _MOST_OPEN_OF_ONE = 16, 2
# The gateway waits a minute for the first byte; this and the patience must leave some of it.
_LONGEST_WAIT_SECONDS = 10.0


class CollectedParts:
    """The document. Its files are gone once it was read or let go of."""

    def __init__(self, user_id: UserId, at: datetime, names: Iterable[str]) -> None:
        self.user_id = user_id
        self._at = at
        with ExitStack() as opened:
            self.parts: Mapping[str, IO[bytes]] = {
                name: opened.enter_context(SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
                for name in names
            }
            # Of a reader who went before the first byte nobody is told.
            self._files = finalize(self, opened.pop_all().close)

    @property
    def is_open(self) -> bool:
        """Whether it still takes up room."""
        return self._files.alive

    def close(self) -> None:
        """Let go of it."""
        self._files()

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            yield b'{"exported_at":"' + rfc3339(self._at).encode() + b'"'
            for name, file in self.parts.items():
                yield b',"' + name.encode() + b'":'
                await asyncio.to_thread(file.seek, 0)
                while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    yield chunk
            yield b"}"
        finally:
            self.close()


class PeerCollector:
    """Asks the other services on their internal ports, all at the same time."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        urls: Mapping[str, str | None],
        identity: ServiceIdentity,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        longest_wait_seconds: float = _LONGEST_WAIT_SECONDS,
    ) -> None:
        """`urls`: the base URL of each peer's internal port, None where none is known."""
        self._client = client
        self._urls = urls
        self._identity = identity
        self._patience = patience_seconds
        self._longest_wait = longest_wait_seconds
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._documents = WeakSet[CollectedParts]()

    async def collect(
        self, user_id: UserId, own: AsyncIterator[bytes], *, at: datetime
    ) -> CollectedParts:
        """Raises TooManyExports, or ExportUnavailable, which names the first service that could not
        be had."""
        async with self._place():
            document = self._begin(user_id, at)
            with ExitStack() as failing:
                failing.callback(document.close)
                fetching = [
                    asyncio.create_task(self._fetch(name, user_id, document.parts[name]))
                    for name in self._urls
                ]
                fetching.append(asyncio.create_task(self._write_own(own, document.parts["auth"])))
                try:
                    await asyncio.gather(*fetching)
                finally:
                    # Nobody may still be writing when the files are closed.
                    for task in fetching:
                        task.cancel()
                    await asyncio.gather(*fetching, return_exceptions=True)
                failing.pop_all()
                return document

    def _begin(self, user_id: UserId, at: datetime) -> CollectedParts:
        """Raises TooManyExports."""
        takers = [document.user_id for document in self._documents if document.is_open]
        if len(takers) >= _MOST_OPEN or takers.count(user_id) >= _MOST_OPEN_OF_ONE:
            raise TooManyExports
        document = CollectedParts(user_id, at, ("auth", *self._urls))
        self._documents.add(document)
        return document

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._gate.acquire()
        except TimeoutError as error:
            raise TooManyExports from error
        try:
            yield
        finally:
            self._gate.release()

    async def _write_own(self, own: AsyncIterator[bytes], into: IO[bytes]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await _write(own, into)
        except TimeoutError as error:
            raise ExportUnavailable("auth") from error

    async def _fetch(self, service: str, user_id: UserId, into: IO[bytes]) -> None:
        url = self._urls[service]
        if url is None:
            raise ExportUnavailable(service)
        token = self._identity.token_for(service)
        try:
            with calling("collect an export", peer=service) as trace:
                async with (
                    asyncio.timeout(self._patience),
                    self._client.stream(
                        "GET",
                        f"{url.rstrip('/')}/internal/users/{user_id}/export",
                        headers={"authorization": f"Bearer {token}"} | trace,
                        timeout=self._patience,
                    ) as answer,
                ):
                    answer.raise_for_status()
                    await _write(answer.aiter_bytes(_CHUNK_BYTES), into)
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("export_part_missing", service=service, reason=type(error).__name__)
            raise ExportUnavailable(service) from error


async def _write(chunks: AsyncIterator[bytes], into: IO[bytes]) -> None:
    try:
        async for chunk in chunks:
            # It may be a disk by now.
            await asyncio.to_thread(into.write, chunk)
    except ExpectedFailure:
        raise
    except OSError as error:
        log.warning("export_not_written", reason=type(error).__name__)
        raise ExportUnavailable("auth") from error
