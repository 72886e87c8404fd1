"""Runs in an image of ours and says as JSON what it finds there: `python - < inside.py`."""

import asyncio
import importlib
import importlib.util
import io
import json
import os
import pkgutil
import ssl
import sys
import zoneinfo
from datetime import UTC, datetime
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


def usage_in_a_file() -> dict[str, str] | None:
    """How a day's usage begins that is written here, what is read of it again, and what would bring
    it into a bucket; None where there is nothing to do it with."""
    if not importable("pyarrow"):
        return None
    from services.billing.providers.export_formats import ParquetFormat

    encoder = ParquetFormat().begin({"id": "text", "at": "moment"})
    written = encoder.rows([{"id": "a", "at": datetime.now(UTC)}]) + encoder.end()
    return {
        "written": written[:4].decode(),
        "read": first_id_in(written),
        "bucket": importlib.import_module("pyarrow.fs").S3FileSystem.__name__,
    }


def first_id_in(parquet: bytes) -> str:
    files = importlib.import_module("pyarrow.parquet")
    with files.ParquetFile(io.BytesIO(parquet)) as file:
        return str(next(file.iter_batches(10)).to_pylist()[0]["id"])


def an_invoice() -> str | None:
    """How one begins that is made here; None where there is nothing to make it with."""
    if not importable("fpdf"):
        return None
    from services.billing.providers.invoice_pdf import PdfFonts, pdf_of
    from services.billing.providers.invoice_sheet import Row, Sheet, Sum

    sheet = Sheet(
        kind="Invoice",
        title="Invoice 1",
        made_at=datetime.now(UTC),
        seller_name="Müller",
        seller_lines=("Zürich",),
        seller_contact=(),
        recipient=("Łódź",),
        facts=(("Invoice number", "1"),),
        has_vendor_cost=True,
        rows=(Row("Plan", "pro", "1 seat", "0.10", "1.00"),),
        sums=(),
        total=Sum("Total", "1.00 USD"),
        notes=("Thank you.",),
        bank_lines=(),
    )
    return pdf_of(sheet, PdfFonts())[:5].decode()


def main() -> None:
    service = os.environ["COMPANION_SERVICE"]
    facts = {
        "user": [os.getuid(), os.getgid()],
        "services": [one for one in SERVICES if importable(f"services.{one}")],
        "unwanted": [one for one in ("pip", "setuptools", "pytest", "deploy") if importable(one)],
        "kits": [one for one in ("boto3", "hvac") if importable(one)],
        "spoken": asyncio.run(spoken_by_the_engine()),
        "invoice": an_invoice(),
        "usage": usage_in_a_file(),
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
