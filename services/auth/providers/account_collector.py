"""Collects what every service keeps about a user into files that may outgrow memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO

import httpx
import structlog

from services.auth.domain.errors import ExportUnavailable
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


class CollectedParts:
    """The document, complete. Its files are gone once it was read or let go of."""

    def __init__(self, at: datetime, parts: Mapping[str, IO[bytes]], files: ExitStack) -> None:
        self._at = at
        self._parts = parts
        self._files = files

    async def chunks(self) -> AsyncIterator[bytes]:
        with self._files:
            yield b'{"exported_at":"' + self._at.isoformat().encode() + b'"'
            for name, file in self._parts.items():
                yield b',"' + name.encode() + b'":'
                await asyncio.to_thread(file.seek, 0)
                while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    yield chunk
            yield b"}"


class PeerCollector:
    """Asks the other services on their internal ports, all at the same time."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        urls: Mapping[str, str | None],
        identity: ServiceIdentity,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """`urls`: the base URL of each peer's internal port, None where none is known."""
        self._client = client
        self._urls = urls
        self._identity = identity
        self._patience = patience_seconds
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def collect(
        self, user_id: UserId, own: AsyncIterator[bytes], *, at: datetime
    ) -> CollectedParts:
        """Raises ExportUnavailable, naming the first service that could not be had."""
        async with self._gate:
            with ExitStack() as opened:
                parts: dict[str, IO[bytes]] = {
                    name: opened.enter_context(SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
                    for name in ("auth", *self._urls)
                }
                fetching = [
                    asyncio.create_task(self._fetch(name, user_id, parts[name]))
                    for name in self._urls
                ]
                fetching.append(asyncio.create_task(_write(own, parts["auth"])))
                try:
                    await asyncio.gather(*fetching)
                finally:
                    # Nobody may still be writing when the files are closed.
                    for task in fetching:
                        task.cancel()
                    await asyncio.gather(*fetching, return_exceptions=True)
                return CollectedParts(at, parts, opened.pop_all())

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
