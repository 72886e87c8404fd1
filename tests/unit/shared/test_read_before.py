"""What a hot route read is told again to whoever answers in its place, piece by piece."""

from __future__ import annotations

from typing import Any

from shared.http.read_before import read_whole, told_again


def coming(*messages: dict[str, Any]) -> Any:
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return receive


def piece(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


async def test_every_piece_is_told_again_and_then_what_comes() -> None:
    pieces = [piece(b'{"te', more=True), piece(b'xt": ', more=True), piece(b'"a"}', more=False)]
    receive = coming(*pieces, GONE)
    messages, body = await read_whole(receive)
    assert body == b'{"text": "a"}'
    again = told_again(messages, receive)
    assert [await again() for _ in range(4)] == [*pieces, GONE]


async def test_who_left_in_the_middle_is_told_too() -> None:
    first = piece(b"{", more=True)
    messages, body = await read_whole(coming(first, GONE))
    assert body is None
    again = told_again(messages, coming())
    assert [await again() for _ in range(2)] == [first, GONE]


async def test_a_single_piece_is_the_whole() -> None:
    assert (await read_whole(coming(piece(b"{}", more=False))))[1] == b"{}"
    assert (await read_whole(coming({"type": "http.request"})))[1] == b""
