"""Routes for what a user has chosen, and for what they may still use."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from services.chat.api.dependencies import ServiceActions
from services.chat.domain.preference import Preference
from shared.http.caller import SignedIn
from shared.http.dollars import DollarsAgree
from shared.http.problems import problems
from shared.limit_state import LimitState
from shared.money import dollars_text

router = APIRouter(prefix="/chat", tags=["preferences"])

_MOST_MICROUSD = 1_000_000_000_000  # a million dollars, in a month


class PreferencesChoice(DollarsAgree):
    """`fallback`: who answers, in this order, when the provider that was asked can't; nobody, when
    it is empty. `monthly_cap_microusd`: the most that your turns may cost in a calendar month
    (UTC); null is no cap. What a model costs that the vendors' price list does not know is not
    counted, and such a turn is let in until the cap is used up. `speak_voice_id`: the voice of
    answers that are asked for with `speak: true`."""

    model_config = ConfigDict(extra="forbid")

    fallback: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field([], max_length=10)
    monthly_cap_microusd: Annotated[int, Field(ge=0, le=_MOST_MICROUSD, strict=True)] | None = None
    speak_voice_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}$")] | None = None

    def preference(self) -> Preference:
        fallback = tuple(dict.fromkeys(self.fallback))
        return Preference(fallback, self.monthly_cap_microusd, self.speak_voice_id)


class PreferencesBody(BaseModel):
    """What you have chosen for all your turns."""

    fallback: list[str]
    monthly_cap_microusd: int | None
    monthly_cap_usd: str | None
    speak_voice_id: str | None

    @classmethod
    def of(cls, preference: Preference) -> PreferencesBody:
        return cls(
            fallback=list(preference.fallback),
            monthly_cap_microusd=preference.monthly_cap_microusd,
            monthly_cap_usd=dollars_text(preference.monthly_cap_microusd),
            speak_voice_id=preference.speak_voice_id,
        )


class WindowBody(BaseModel):
    """A limit, and what of it is used. `reserved` is held for turns that run. A `window_seconds` of
    0 is a limit of how many at once."""

    name: str
    limit: int
    used: int
    reserved: int
    remaining: int
    window_seconds: int
    resets_at: datetime

    @classmethod
    def of(cls, state: LimitState) -> WindowBody:
        return cls(
            name=state.name,
            limit=state.limit,
            used=state.used,
            reserved=state.reserved,
            remaining=state.remaining,
            window_seconds=int(state.window.total_seconds()),
            resets_at=state.resets_at,
        )


class LimitsBody(BaseModel):
    """Every limit of yours; what your tier does not limit is not among them. What this month's
    turns have cost so far is counted from the vendors' list prices; the bill has the last word."""

    tier: str
    data: list[WindowBody]
    month_spent_microusd: int
    month_spent_usd: str
    monthly_cap_microusd: int | None
    monthly_cap_usd: str | None


@router.get("/preferences", responses=problems(401, 503))
async def read(actions: ServiceActions, caller: SignedIn) -> PreferencesBody:
    """What you have chosen for all your turns."""
    return PreferencesBody.of(await actions.read_preference(caller.identity.user_id))


@router.put("/preferences", responses=problems(401, 422, 503))
async def choose(
    body: PreferencesChoice, actions: ServiceActions, caller: SignedIn
) -> PreferencesBody:
    """Choose anew, all of it: what is left out is cleared, also the cap on money. It counts from
    your next turn on."""
    kept = await actions.save_preference(caller.identity.user_id, body.preference())
    return PreferencesBody.of(kept)


@router.patch("/preferences", responses=problems(401, 422, 503))
async def change(
    body: PreferencesChoice, actions: ServiceActions, caller: SignedIn
) -> PreferencesBody:
    """Change what you name; what is left out stays as it is. It counts from your next turn on."""
    kept = await actions.save_preference(
        caller.identity.user_id, body.preference(), only=body.model_fields_set
    )
    return PreferencesBody.of(kept)


@router.get("/limits", responses=problems(401, 503))
async def limits(actions: ServiceActions, caller: SignedIn) -> LimitsBody:
    """What you may still use, by the tier that you have now."""
    limits = await actions.read_limits(caller.identity.user_id, caller.tier)
    return LimitsBody(
        tier=limits.tier,
        data=[WindowBody.of(state) for state in limits.windows],
        month_spent_microusd=limits.spent_microusd,
        month_spent_usd=dollars_text(limits.spent_microusd) or "",
        monthly_cap_microusd=limits.cap_microusd,
        monthly_cap_usd=dollars_text(limits.cap_microusd),
    )
