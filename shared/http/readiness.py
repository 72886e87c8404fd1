"""Whether a process can do its work: `/readyz`, which decides if requests are sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from shared.errors import DependencyUnavailable, ExpectedFailure, Unavailable
from shared.values import dataclass

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[None]]

# Less than a probe waits for its answer.
_PATIENCE_SECONDS = 2.0
_GOOD = "ok"


@dataclass(frozen=True, slots=True)
class GoodToHave:
    """A check of something that a service goes on without, if with less. It is told of and takes
    no process out of service: all would go at once, and nobody would get even the rest."""

    check: Check

    async def __call__(self) -> None:
        await self.check()


class NotReady(Unavailable):
    """Something that this process can't do without does not answer."""

    code = "not_ready"

    def __init__(self, missing: list[str], states: Mapping[str, str]) -> None:
        super().__init__(f"Waiting for {', '.join(missing)}.", dependencies=dict(states))


async def states_of(checks: Mapping[str, Check]) -> Mapping[str, str]:
    """How each dependency is: `ok`, or the code of what is wrong. Raises NotReady when one is
    missing that there is no doing without."""
    told = await asyncio.gather(*(_state_of(name, check) for name, check in checks.items()))
    states = dict(zip(checks, told, strict=True))
    missing = [
        name
        for name, state in states.items()
        if state != _GOOD and not isinstance(checks[name], GoodToHave)
    ]
    if missing:
        raise NotReady(missing, states)
    return states


async def _state_of(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await check()
    except ExpectedFailure as failure:
        return failure.code
    except TimeoutError:
        return DependencyUnavailable.code
    except Exception:
        # A bug, and yet a probe wants an answer.
        log.exception("check_failed", dependency=name)
        return "check_failed"
    return _GOOD
