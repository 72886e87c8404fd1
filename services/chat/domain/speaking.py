"""An answer that is spoken while it is written: what is wished, and the line to who speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Protocol

from shared.identity import OnBehalfOf
from shared.values import dataclass

AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class SpeakWish:
    """Whom a user wants to hear, and how; without a voice, the one that they have chosen."""

    voice_id: str | None = None
    model: str | None = None
    format: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class VoiceLine(Protocol):
    """A line to the service of voices, for one answer. Every call raises Unavailable when the line
    breaks."""

    async def prepare(self) -> None:
        """The first sentence is being written: make ready to speak it. Costs nothing."""
        ...

    async def say(self, sentence: str) -> None:
        """The next sentence. Returns when the line takes more."""
        ...

    async def finish(self) -> None:
        """There are no more sentences."""
        ...

    async def stop(self) -> None:
        """Be silent now; how it ended is still told."""
        ...

    async def hear(self) -> tuple[str, bytes]:
        """The next event as clients hear it: `audio`, and a last one."""
        ...

    async def close(self) -> None:
        """Leave; what was said until now is settled there."""
        ...


class VoiceLines(Protocol):
    """Opens lines."""

    async def line(self, manner: Mapping[str, Any], *, by: OnBehalfOf) -> VoiceLine:
        """Nothing is charged before the first sentence. Raises what is refused there."""
        ...
