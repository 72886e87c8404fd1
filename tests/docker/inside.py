"""Runs in an image of ours and says as JSON what it finds there: `python - < inside.py`."""

import asyncio
import importlib
import importlib.util
import json
import os
import pkgutil
import ssl
import sys
import zoneinfo
from pathlib import Path

SERVICES = ("auth", "billing", "chat", "keyvault", "voice")


def importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def broken(package: str) -> dict[str, str]:
    """Which modules of a package can't be imported, and why."""
    found = {}
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}.", onerror=lambda _: None):
        # Migrations run within Alembic; a worker wants its settings when it is imported.
        if ".migrations" in module.name or module.name.endswith(".worker"):
            continue
        try:
            importlib.import_module(module.name)
        except Exception as error:
            found[module.name] = repr(error)
    return found


def writable(folder: str) -> bool:
    try:
        Path(folder, "written").write_text("", "utf-8")
    except OSError:
        return False
    return True


def uncompiled() -> list[str]:
    """What an interpreter would compile at each start: the file system is read-only."""
    return [
        str(file)
        for file in Path("/app").rglob("*.py")
        if not Path(importlib.util.cache_from_source(str(file))).exists()
    ]


def programs() -> list[str]:
    folders = [Path(folder) for folder in ("/bin", "/sbin", "/usr/local/bin", "/usr/sbin")]
    return sorted({file.name for folder in folders if folder.exists() for file in folder.iterdir()})


async def spoken_by_the_engine() -> int | None:
    """How many bytes the engine that needs no key makes of a word; None where it isn't built in."""
    if not importable("espeakng_loader"):
        return None
    from services.voice.domain.audio_format import AudioFormat
    from services.voice.domain.script import Script
    from services.voice.domain.voice import VoiceId, VoiceSettings
    from services.voice.providers.espeak import Espeak, installed

    voice = VoiceId("espeak-de")
    script = Script(
        text="Hallo.",
        voice_id=voice,
        model="espeak-ng",
        format=AudioFormat("wav_22050"),
        settings=VoiceSettings(),
    )
    async with Espeak(installed(), default_voice=voice).speak(script) as audio:
        return len(await audio.read())


def main() -> None:
    service = os.environ["COMPANION_SERVICE"]
    facts = {
        "user": [os.getuid(), os.getgid()],
        "services": [one for one in SERVICES if importable(f"services.{one}")],
        "unwanted": [one for one in ("pip", "setuptools", "pytest", "deploy") if importable(one)],
        "kits": [one for one in ("boto3", "hvac") if importable(one)],
        "spoken": asyncio.run(spoken_by_the_engine()),
        "broken": broken(f"services.{service}") if service in SERVICES else {},
        "writable": [one for one in ("/app", "/usr", "/etc", "/tmp") if writable(one)],
        "uncompiled": uncompiled(),
        "modules": len([*Path("/app").rglob("*.pyc")]),
        "programs": programs(),
        "authorities": len(ssl.create_default_context().get_ca_certs()),
        "zone": str(zoneinfo.ZoneInfo("Europe/Berlin")),
        "bill": json.loads(Path("/app/sbom.json").read_text("utf-8")),
    }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main()
