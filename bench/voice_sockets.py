"""What many sockets at `WS /voice/realtime` cost voice: `python -m bench.voice_sockets`.

A whole voice runs as a process of its own; in place of the egress stands a server that speaks the
vendor's socket, at a steady pace. First the sockets are open and silent, then all of them speak at
once, then they are silent again, and then they leave.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import sys
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from uuid import UUID, uuid4

import orjson
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.processes import OURS, Meter, ServiceProcess, service_process
from bench.voice_alone import engines_for_voice
from deploy.companion.ports import free_port
from shared.db.database import open_database
from shared.settings import service_database_url
from tests.support.sessions import know_ended_sessions
from tests.support.tokens import TokenMint

_EACH = 10  # sockets of a user
_PIECES, _STEP_SECONDS = 40, 0.05
_AUDIO = b64encode(b"\x01\x02" * 2_048).decode()
_TEXT = "One of very many, at the same time as all of the others."
_MOST_SECONDS = 120.0


async def _vendor(socket: ServerConnection) -> None:
    """Says pieces for the first words, and no more."""
    said = False
    try:
        async for message in socket:
            word = orjson.loads(message)
            if word["text"] == "":
                await socket.send('{"audio":null,"isFinal":true}')
            elif word["text"] != " " and not said:
                said = True
                for _ in range(_PIECES):
                    await socket.send(f'{{"audio":"{_AUDIO}","isFinal":null}}')
                    await asyncio.sleep(_STEP_SECONDS)
    except ConnectionClosed:
        pass


def _serve_vendor(port: int, cores: Sequence[int]) -> None:
    os.sched_setaffinity(0, cores)

    async def run() -> None:
        async with serve(_vendor, "127.0.0.1", port, compression=None) as server:
            await server.serve_forever()

    uvloop.run(run())


def main() -> None:
    """Run it and print what it found."""
    parser = argparse.ArgumentParser(prog="python -m bench.voice_sockets", description=__doc__)
    parser.add_argument("--sockets", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, engines_for_voice(Path(folder)) as engines:
        print(uvloop.run(_all(engines, given.sockets)))


async def _all(engines: Mapping[str, str], sockets: int) -> str:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    await know_ended_sessions(engines["CACHE_URL"])
    mint, port = TokenMint(), free_port()
    vendor = multiprocessing.get_context("spawn").Process(
        target=_serve_vendor, args=(port, cores[1:] or cores), daemon=True
    )
    vendor.start()
    try:
        async with mint.served() as jwks_url:
            environment = {
                **os.environ,
                **engines,
                "JWKS_URL": jwks_url,
                "EGRESS_URL": f"http://127.0.0.1:{port}",
            }
            with service_process("voice", "ours", OURS, environment, cores[:1]) as voice:
                async with asyncio.timeout(_MOST_SECONDS):
                    return await _measured(voice, mint, sockets, engines["DATABASE_URL"])
    finally:
        vendor.terminate()


async def _measured(voice: ServiceProcess, mint: TokenMint, sockets: int, database: str) -> str:
    users = [uuid4() for _ in range(-(-sockets // _EACH))]
    async with AsyncExitStack() as warm:  # what the first one loads belongs to no socket
        for one in await _opened(warm, voice, mint, [uuid4()], 2):
            await _speech(one)
    memory = [_mib(voice)]
    async with AsyncExitStack() as stack:
        _tell(f"opening {sockets} ...")
        devices = await _opened(stack, voice, mint, users, sockets)
        await asyncio.sleep(1)
        memory.append(_mib(voice))
        _tell("all speak ...")
        meter = Meter({"voice": voice.pid})
        speaking = [asyncio.create_task(_speech(device)) for device in devices]
        await asyncio.sleep(_PIECES * _STEP_SECONDS / 2)
        memory.append(_mib(voice))
        heard = await asyncio.gather(*speaking)
        await asyncio.sleep(1)
        spent = meter.spent()["voice"]
        memory.append(_mib(voice))
        _tell("all leave ...")
    await asyncio.sleep(1)
    memory.append(_mib(voice))
    return _report(sockets, memory, spent, heard, await _outcomes(database))


async def _opened(
    stack: AsyncExitStack,
    voice: ServiceProcess,
    mint: TokenMint,
    users: Sequence[UUID],
    number: int,
) -> list[ClientConnection]:
    devices = []
    for user in itertools.islice(itertools.cycle(users), number):
        device = await stack.enter_async_context(
            connect(
                f"ws://127.0.0.1:{voice.port}/voice/realtime",
                additional_headers=mint.headers(user, tier="enterprise"),
                proxy=None,
                compression=None,
            )
        )
        assert orjson.loads(await device.recv())["event"] == "authenticated"
        devices.append(device)
    return devices


async def _speech(device: ClientConnection) -> tuple[str, float]:
    """How it ended, and when the first audio came, in seconds."""
    began, first = asyncio.get_running_loop().time(), 0.0
    wish = {"op": "start", "voice_id": "21m00Tcm4TlvDq8ikWAM", "audio": "binary"}
    words = ({**wish, "format": "pcm_16000"}, {"op": "say", "text": _TEXT}, {"op": "end"})
    for word in words:
        await device.send(orjson.dumps(word).decode())
    async for message in device:
        if isinstance(message, bytes):
            first = first or asyncio.get_running_loop().time() - began
            continue
        event = orjson.loads(message)
        if event["event"] in ("done", "error", "interrupted"):
            told = event["data"]
            return told.get("dependency") or told.get("code") or event["event"], first
    return "closed", first


async def _outcomes(server: str) -> Mapping[str, int]:
    """How the speeches are written down; two of them came before."""
    url = service_database_url(server, "voice")
    async with open_database(url, connections=1, application="bench") as database:
        rows = await database.fetch(
            "select coalesce(outcome, state) as how, count(*) as n from speech group by 1"
        )
    return {row["how"]: row["n"] for row in rows}


def _mib(voice: ServiceProcess) -> float:
    return Meter({"voice": voice.pid}).resident()["voice"] / 2**20


def _report(
    sockets: int,
    memory: Sequence[float],
    spent: float,
    heard: Sequence[tuple[str, float]],
    outcomes: Mapping[str, int],
) -> str:
    before, silent, speaking, after, left = memory
    firsts = quantiles([first for _, first in heard], n=100, method="inclusive")
    each = 1024 / sockets
    return "\n".join(
        [
            f"{sockets} sockets: ended {dict(Counter(how for how, _ in heard))}; "
            f"written down {dict(outcomes)}, two of them before.",
            f"Voice: {before:.0f} MiB before, {silent:.0f} with all open and silent "
            f"({(silent - before) * each:.0f} KiB each), {speaking:.0f} while all speak "
            f"({(speaking - before) * each:.0f} KiB each), {after:.0f} when all are silent again, "
            f"{left:.0f} when all have left.",
            f"{spent * 1000 / sockets:.1f} CPU-ms an utterance of {_PIECES} pieces. First audio, "
            f"all begun in the same moment: p50 {firsts[49] * 1000:.0f} ms, "
            f"p99 {firsts[98] * 1000:.0f} ms.",
        ]
    )


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
