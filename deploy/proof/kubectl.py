"""kubectl, in the context and the namespace that it is set to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from deploy.companion.errors import CompanionError
from shared.values import dataclass

_LAST_WORDS = 800


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The program of that name, or another one."""

    program: str = "kubectl"

    def run(self, *words: str, seconds: float = 120) -> str:
        """Carry a command out; what it says. Raises CompanionError."""
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                self.command(*words), capture_output=True, text=True, timeout=seconds
            )
        except FileNotFoundError as error:
            raise CompanionError("kubectl is not installed.") from error
        except subprocess.TimeoutExpired as error:
            raise CompanionError(f"kubectl {words[0]} took longer than {seconds:.0f} s.") from error
        if done.returncode != 0:
            raise CompanionError(f"kubectl {words[0]} failed: {done.stderr.strip()[-_LAST_WORDS:]}")
        return done.stdout

    def command(self, *words: str) -> list[str]:
        """What is to be carried out."""
        return [self.program, *words]

    def items(self, kinds: str, *words: str) -> list[Any]:
        """Objects of these kinds, with all that the cluster says of them."""
        return list(json.loads(self.run("get", kinds, *words, "--output", "json"))["items"])

    def inside(self, pod: str, command: Sequence[str], *, seconds: float = 120) -> str:
        """What a command says within a pod's first container. Raises CompanionError."""
        return self.run("exec", pod, "--", *command, seconds=seconds)
