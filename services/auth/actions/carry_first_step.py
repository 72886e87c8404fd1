"""Carry what was typed in the first step of a sign-in over to the second."""

from __future__ import annotations

from services.auth.domain.first_step import FirstStep
from services.auth.domain.ports import SigningKeySource
from services.auth.domain.sealing import Sealer
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class CarryFirstStep:
    """Seal it for one browser, and open it again."""

    keys: SigningKeySource
    clock: Clock

    def seal(self, step: FirstStep, browser: str) -> str:
        """Raises SigningKeysUnavailable."""
        return step.sealed(self._sealer(), browser, self.clock.now())

    def open(self, text: str, browser: str) -> FirstStep:
        """Raises FirstStepOver or SigningKeysUnavailable."""
        return FirstStep.opened(text, self._sealer(), browser, self.clock.now())

    def _sealer(self) -> Sealer:
        return Sealer(self.keys.current().sealing_keys)
