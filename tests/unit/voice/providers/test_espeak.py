"""The real engine, a process a text."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.errors import EngineBusy
from services.voice.domain.script import Script
from services.voice.domain.voice import VoiceId, VoiceSettings
from services.voice.providers import espeak
from services.voice.providers.espeak import EngineNotInstalled, Espeak, Installation, installed
from shared.settings import SettingsRefused
from shared.vendors.failures import VendorFailed


def a_script(text: str = "Hallo.", *, format_: str = "pcm_22050", speed: float = 1.0) -> Script:
    return Script(
        text=text,
        voice_id=VoiceId("espeak-de"),
        model="espeak-ng",
        format=AudioFormat(format_),
        settings=VoiceSettings(speed=speed),
    )


async def said(engine: Espeak, script: Script) -> bytes:
    audio = bytearray()
    async with engine.speak(script) as speech:
        while piece := await speech.read():
            audio += piece
    return bytes(audio)


def an_engine(installation: Installation | None = None, **bounds: object) -> Espeak:
    voice = VoiceId("espeak-de")
    return Espeak(installation or installed(), default_voice=voice, **bounds)  # type: ignore[arg-type]


def a_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
    """Another program in the place of the speaker; leaves its process's id."""
    program, pid = tmp_path / "speaker.py", tmp_path / "pid"
    program.write_text(
        f"import os, sys, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n{code}\n"
    )
    monkeypatch.setattr(espeak, "_SPEAKER", program)
    return pid


async def test_it_speaks() -> None:
    file = await said(an_engine(), a_script(format_="wav_22050"))
    with wave.open(io.BytesIO(file)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        assert sound.getframerate() == 22_050
        samples = sound.readframes(sound.getnframes())
        assert len(samples) == 2 * sound.getnframes() > 10_000
    assert max(samples) > 0
    assert await said(an_engine(), a_script()) == samples


async def test_it_speaks_faster_when_told_so() -> None:
    slow, fast = [len(await said(an_engine(), a_script(speed=speed))) for speed in (0.7, 1.2)]
    assert fast < slow


async def test_markup_and_phonemes_are_only_text_to_it() -> None:
    assert await said(an_engine(), a_script("<audio src='/etc/passwd'/> [[h@l'oU]] \u4e2d 🎉"))


def test_it_has_a_voice_for_each_language() -> None:
    voices = {voice.id: voice for voice in installed().voices}
    assert {"espeak-de", "espeak-en-us", "espeak-pt-br"} <= set(voices)
    assert (voices[VoiceId("espeak-de")].name, voices[VoiceId("espeak-de")].category) == (
        "German",
        "basic",
    )
    assert "espeak-fo" not in voices  # its dictionary does not come along


def test_a_voice_that_it_does_not_have_is_refused_when_it_is_switched_on() -> None:
    with pytest.raises(SettingsRefused, match=r"VOICE_OFFLINE_VOICE.*espeak-xx"):
        Espeak(installed(), default_voice=VoiceId("espeak-xx"))


def test_its_process_dumps_nothing_writes_nothing_and_takes_no_more_than_its_share() -> None:
    program = Path(espeak.__file__).parent
    asked = "[r.getrlimit(w)[1] for w in (r.RLIMIT_CORE, r.RLIMIT_FSIZE, r.RLIMIT_AS)]"
    code = f"import resource as r, espeak_speaker as s; s.keep_within_limits(); print({asked})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=program, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == ["[0,", "0,", f"{1 << 30}]"]


@pytest.mark.parametrize(
    "code",
    ["sys.exit(3)", "os.kill(os.getpid(), 11)", "pass", "os.write(1, b'ab'); sys.exit(1)"],
    ids=["refused", "crashed", "silent", "broke off"],
)
async def test_a_process_that_fails_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    a_speaker(tmp_path, monkeypatch, code)
    with pytest.raises(VendorFailed):
        await said(an_engine(), a_script())


async def test_a_process_that_hangs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = a_speaker(tmp_path, monkeypatch, "time.sleep(60)")
    engine = an_engine(at_once=1, patience=timedelta(seconds=0.5))
    with pytest.raises(VendorFailed):
        await said(engine, a_script())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_who_leaves_takes_the_process_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = a_speaker(tmp_path, monkeypatch, "time.sleep(60)")
    hearing = asyncio.create_task(said(an_engine(), a_script()))
    while not pid.exists() or not pid.read_text():
        await asyncio.sleep(0.01)
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_beyond_its_bound_others_wait_and_then_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_speaker(tmp_path, monkeypatch, "time.sleep(60)")
    engine = an_engine(at_once=1, patience=timedelta(seconds=0.3))
    first = asyncio.create_task(said(engine, a_script()))
    await asyncio.sleep(0)
    engine._patience = 0.05
    with pytest.raises(EngineBusy):
        await said(engine, a_script())
    with pytest.raises(VendorFailed):
        await first


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    yield


@pytest.mark.usefixtures("not_installed")
def test_without_its_package_it_refuses_to_start_with_a_sentence() -> None:
    with pytest.raises(EngineNotInstalled, match="needs the extra `voice-offline`"):
        installed()
