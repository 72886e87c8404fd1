"""The simulator as a process of its own, and a handle to steer it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from tests.support.simulator.keys import digest

_SAYS: Final = "simulator listening on "


class RunningSimulator:
    """Speaks the control API; the calls are quick enough to be made from async tests too."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.openai = f"{url}/openai/v1"
        self.anthropic = f"{url}/anthropic"
        self.gemini = f"{url}/gemini"
        self.elevenlabs = f"{url}/elevenlabs"
        self._control = httpx.Client(base_url=f"{url}/_sim", trust_env=False)

    def add_fault(self, kind: str, *, vendor: str = "*", key: str = "", **options: Any) -> Any:
        """`key` keeps the fault to the requests that bring this very key."""
        order = {"vendor": vendor, "kind": kind, "key_sha256": digest(key), **options}
        return self._answer(self._control.post("/faults", json=order))

    def clear_faults(self) -> None:
        self._control.delete("/faults").raise_for_status()

    def served(self, *, key: str = "", **filters: str | int) -> list[dict[str, Any]]:
        query = {**filters, **({"key_sha256": digest(key)} if key else {})}
        found: list[dict[str, Any]] = self._answer(self._control.get("/served", params=query))[
            "served"
        ]
        return found

    def forget_served(self) -> None:
        self._control.delete("/served").raise_for_status()

    def last_headers(self, vendor: str | None = None) -> Any:
        query = {"vendor": vendor} if vendor else {}
        return self._answer(self._control.get("/headers/last", params=query))

    def set_defaults(self, **options: str | int) -> None:
        self._answer(self._control.put("/defaults", json=options))

    def close(self) -> None:
        self._control.close()

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.is_error:
            raise ValueError(response.text)
        return response.json()


@contextmanager
def running_simulator(*arguments: str) -> Iterator[RunningSimulator]:
    """A simulator on a free port, gone when the block ends."""
    command = [sys.executable, "-m", "tests.support.simulator", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said.startswith(_SAYS), f"The simulator did not start: {said!r}"
            simulator = RunningSimulator(said.removeprefix(_SAYS).strip())
            yield simulator
            simulator.close()
        finally:
            process.terminate()
            process.wait(timeout=5)
