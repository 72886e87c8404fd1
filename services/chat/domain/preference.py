"""What a user has chosen for all their turns."""

from __future__ import annotations

from collections.abc import Sequence

from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Preference:
    """`fallback`: which providers answer, in this order, when the one that was asked can't; empty
    means none does. `monthly_cap_microusd`: the user's own cap on what their turns may cost in a
    month; None means no cap. `speak_voice_id`: who speaks answers that name no voice."""

    fallback: Sequence[str] = ()
    monthly_cap_microusd: int | None = None
    speak_voice_id: str | None = None
