"""Prints what an image requires beside what all have: `... .recipe.own SERVICE [ENGINE]`.

ENGINE is the one of its own that voice can speak with; other images have none, whatever is asked.
"""

import re
import sys
from pathlib import Path

REQUIREMENTS = Path("/requirements")
COMMON = "keyvault"
BORROWED = {
    # The simulator of vendors is an aiohttp server, as chat's egress client is aiohttp too.
    "simulator": "chat",
    # What keyvault has for itself are the kits of the key services that may hold its keys.
    "keyvault": "key-services",
}


# By the value of VOICE_OFFLINE_ENGINE that switches it on.
WITH_ENGINE = {"": "voice", "espeak-ng": "voice-offline"}


class NoSuchEngine(Exception):
    """The recipe is asked for an engine that voice does not know."""


class PinsDiffer(Exception):
    """Two files of requirements name different versions; `make lock` makes them anew."""


def pins(text: str) -> dict[str, str]:
    """Each requirement with its hashes, by the line that names its version."""
    entries = re.split(r"\n(?=\S)", text)
    return {entry.split(" ")[0]: entry for entry in entries if not entry.startswith("#")}


def own(text: str, common: str) -> list[str]:
    """What the first has and the second doesn't; the versions of the rest are the same."""
    here, there = pins(text), pins(common)
    names = {pin.partition("==")[0] for pin in there}
    for pin in here.keys() - there.keys():
        if pin.partition("==")[0] in names:
            raise PinsDiffer(f"{pin} is pinned otherwise for all services: run `make lock`.")
    return [entry for pin, entry in here.items() if pin and pin not in there]


def requirements_of(service: str, engine: str = "") -> str:
    """The file that holds what the image needs. Raises NoSuchEngine."""
    if engine not in WITH_ENGINE:
        known = ", ".join(name for name in WITH_ENGINE if name)
        raise NoSuchEngine(f"OFFLINE_ENGINE is {engine!r}; it may be empty or {known}.")
    return WITH_ENGINE[engine] if service == "voice" else BORROWED.get(service, service)


def main(service: str, engine: str = "") -> None:
    name = requirements_of(service, engine)
    files = [REQUIREMENTS / f"{one}.txt" for one in (name, COMMON)]
    mine, common = (file.read_text("utf-8") for file in files)
    print("\n".join(entry.rstrip() for entry in own(mine, common)))


if __name__ == "__main__":
    main(*sys.argv[1:])
