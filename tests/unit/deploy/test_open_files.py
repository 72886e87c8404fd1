"""How many clients a gateway takes on a machine that allows few open files."""

from __future__ import annotations

import resource

import pytest

from deploy.companion.supervision import open_files


@pytest.mark.parametrize(
    ("allowed", "taken"),
    [(20_000, 9_488), (4_096, 1_536), (100, 1), (1_048_576, 20_000), (-1, 20_000)],
)
def test_a_proxy_keeps_files_for_the_services(
    monkeypatch: pytest.MonkeyPatch, allowed: int, taken: int
) -> None:
    hard = resource.RLIM_INFINITY if allowed == -1 else allowed
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, hard))
    assert open_files.connections(20_000) == taken
