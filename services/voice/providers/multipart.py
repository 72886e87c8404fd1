"""A multipart form that is read from its files while it is sent (RFC 7578)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import BinaryIO

from shared.clients.egress import Payload

_PIECE = 1 << 16


class MultipartForm:
    """Texts and files, in the order in which they were added. Names are ours, and plain."""

    def __init__(self) -> None:
        self._boundary = secrets.token_hex(16)
        self._parts: list[bytes | tuple[BinaryIO, int]] = []

    def add_text(self, name: str, value: str) -> None:
        self._parts.append(self._head(name) + value.encode() + b"\r\n")

    def add_file(
        self, name: str, filename: str, content_type: str, content: BinaryIO, size: int
    ) -> None:
        self._parts += [self._head(name, filename, content_type), (content, size), b"\r\n"]

    def payload(self) -> Payload:
        """The form as a body."""
        end = f"--{self._boundary}--\r\n".encode()
        sizes = [len(part) if isinstance(part, bytes) else part[1] for part in self._parts]
        return Payload(
            content_type=f"multipart/form-data; boundary={self._boundary}",
            length=sum(sizes) + len(end),
            pieces=self._pieces(end),
        )

    async def _pieces(self, end: bytes) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
                continue
            content, _ = part
            await asyncio.to_thread(content.seek, 0)
            while piece := await asyncio.to_thread(content.read, _PIECE):
                yield piece
        yield end

    def _head(self, name: str, filename: str | None = None, content_type: str = "") -> bytes:
        told = f'form-data; name="{name}"'
        kind = ""
        if filename is not None:
            told += f'; filename="{filename}"'
            kind = f"content-type: {content_type}\r\n"
        return f"--{self._boundary}\r\ncontent-disposition: {told}\r\n{kind}\r\n".encode()
