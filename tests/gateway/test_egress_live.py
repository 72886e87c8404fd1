"""Voice's lines to the vendor through the real egress: the provider, Envoy, a stand-in for keyvault
and the simulated vendor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from deploy.envoy.egress import DEFAULT_URLS
from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.errors import SpeechRejected, VoiceNotFound
from services.voice.domain.piece import Piece
from services.voice.domain.script import Manner, MannerWish, manner_for
from services.voice.providers.elevenlabs_live import ElevenLabsLive
from shared.clients.egress import KeyRefused, NoUsableKey, Payload, open_egress
from shared.errors import DependencyUnavailable
from shared.identity import OnBehalfOf, ServiceIdentity
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.revocation import KeyInUse, Revocation
from shared.tiers import tier_named
from shared.vendors.failures import VendorFailed, VendorQuotaExhausted
from tests.gateway.egress_tools import BASE_PATHS, Egress, an_egress
from tests.gateway.servers import free_endpoint
from tests.support.simulator.process import RunningSimulator, running_simulator
from tests.support.tokens import identity_of, write_identities
from tests.support.voice import NOON, a_hold

RACHEL = "21m00Tcm4TlvDq8ikWAM"
ADA = OnBehalfOf(UserId(UUID(int=1)), "request-of-ada", "token-of-ada", uuid4())


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> ServiceIdentity:
    directory = tmp_path_factory.mktemp("identities")
    write_identities(directory)
    return identity_of(directory, "voice")


@pytest.fixture(scope="module")
async def proxy(simulator: RunningSimulator) -> AsyncIterator[Egress]:
    elsewhere = {name: f"http://{free_endpoint()}{BASE_PATHS[name]}" for name in DEFAULT_URLS}
    urls = {**elsewhere, "elevenlabs": simulator.elevenlabs}
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        async with an_egress(Path(name), urls=urls) as proxy:
            yield proxy


@pytest.fixture
async def live(proxy: Egress, voice: ServiceIdentity) -> AsyncIterator[ElevenLabsLive]:
    async with open_egress(f"http://127.0.0.1:{proxy.proxy.port}", voice) as egress:
        yield ElevenLabsLive(egress)


def a_manner(**wishes: Any) -> Manner:
    wish = MannerWish(**{"voice_id": RACHEL, "format": "pcm_16000", **wishes})
    return manner_for(wish, tier_named("enterprise"), ModelCatalogue())


async def heard(live: ElevenLabsLive, *texts: str, **wishes: str) -> list[Piece]:
    pieces: list[Piece] = []
    async with live.live(a_manner(**wishes), by=ADA) as line:
        for text in texts:
            await line.say(text)
        await line.finish()
        while (piece := await line.read()).audio:
            pieces.append(piece)
    return pieces


@pytest.mark.parametrize("model", ["eleven_flash_v2_5", "eleven_v3", "eleven_v4_turbo"])
async def test_both_kinds_of_sockets_speak(live: ElevenLabsLive, proxy: Egress, model: str) -> None:
    pieces = await heard(live, "Hello there. ", "Bye. ", model=model)
    spoken = "".join("".join(piece.alignment.characters) for piece in pieces if piece.alignment)
    assert spoken == "Hello there. Bye. "
    assert len(b"".join(piece.audio for piece in pieces)) == len(spoken) * 640 * 2
    asked = proxy.keyvault.asked[-1]
    assert asked["x-companion-user"] == "token-of-ada"


@pytest.mark.parametrize("model", ["eleven_flash_v2_5", "eleven_v3"])
@pytest.mark.parametrize(("version", "ends"), [(2, False), (3, True)])
async def test_a_socket_too_tells_which_key_it_runs_on(
    live: ElevenLabsLive, model: str, version: int, ends: bool
) -> None:
    by = replace(ADA, key=KeyInUse())
    async with live.live(a_manner(model=model), by=by):
        gone = Revocation(by.user_id, "elevenlabs", NOON, version)
        assert by.key.withdrawn(gone, a_hold(user_id=by.user_id), lambda: None) is ends


@pytest.mark.parametrize("model", ["eleven_flash_v2_5", "eleven_v3"])
async def test_what_the_vendor_says_is_told_as_what_it_means(
    live: ElevenLabsLive, model: str
) -> None:
    with pytest.raises(VendorFailed):
        await heard(live, "[[sim:cut,chunks=4]] one two three four", model=model)
    with pytest.raises(VendorQuotaExhausted):
        await heard(live, "[[sim:fault=quota]] one", model=model)
    with pytest.raises(VoiceNotFound):
        await heard(live, "Hello.", voice_id="nobody", model=model)
    odd = replace(a_manner(model=model), format=AudioFormat("wav_16000"))
    with pytest.raises(SpeechRejected):
        async with live.live(odd, by=ADA):
            pass


@pytest.mark.parametrize("kind", ["cut", "reset"])
async def test_a_line_that_breaks_is_known_to_be_broken_before_much_more_is_said_over_it(
    live: ElevenLabsLive, kind: str
) -> None:
    waits = []
    for _ in range(5):
        async with live.live(a_manner(), by=ADA) as line:
            await line.say(f"[[sim:{kind},at=1,chunks=4]] one two three four")
            assert (await line.read()).audio
            began = time.monotonic()
            with pytest.raises(VendorFailed):
                await line.read()
            waits.append(time.monotonic() - began)
    # Envoy's own default is a whole second, whatever the machine has to do.
    assert min(waits) < 0.8


async def test_keyvault_says_who_may(live: ElevenLabsLive, proxy: Egress) -> None:
    def saying(status: int, code: str) -> None:
        async def refuse(_: web.BaseRequest) -> web.Response:
            return web.json_response({"code": code, "detail": "No."}, status=status)

        proxy.keyvault.decide = refuse

    granted = proxy.keyvault.decide
    try:
        saying(404, "key_not_found")
        with pytest.raises(NoUsableKey):
            await heard(live, "Hello.")
        saying(403, "grant_refused")
        with pytest.raises(KeyRefused):
            await heard(live, "Hello.")
        saying(503, "vault_sealed")
        with pytest.raises(DependencyUnavailable):
            await heard(live, "Hello.")
    finally:
        proxy.keyvault.decide = granted
    assert await heard(live, "Hello.")


async def test_a_refusal_reaches_who_has_megabytes_still_to_say(
    proxy: Egress, voice: ServiceIdentity
) -> None:
    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.json_response({"code": "key_not_found", "detail": "No."}, status=404)

    async def recordings() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(1 << 16)

    granted, proxy.keyvault.decide = proxy.keyvault.decide, refuse
    try:
        async with open_egress(f"http://127.0.0.1:{proxy.proxy.port}", voice) as egress:
            for _ in range(5):
                payload = Payload("application/octet-stream", 200 << 16, recordings())
                with pytest.raises(NoUsableKey):
                    async with egress.request(
                        "POST", "elevenlabs", "/v1/voices/add", by=ADA, payload=payload
                    ):
                        pass
    finally:
        proxy.keyvault.decide = granted
