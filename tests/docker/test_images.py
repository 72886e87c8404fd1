"""What the built images are like inside. `python -m deploy.images` makes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.images.product import LIMIT_BYTES, NAMES
from deploy.images.recipe.rooms import SERVICES

pytestmark = pytest.mark.docker

CLOSED = ("--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none")
INSIDE = Path(__file__).with_name("inside.py")
PYTHON = {"python", "python3", "python3.13"}


def docker(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], input=given, capture_output=True, text=True, timeout=300
    )


@cache
def about(name: str) -> Mapping[str, Any]:
    """What the engine knows about an image; skips where there is no engine or no image."""
    if shutil.which("docker") is None:
        pytest.skip("Docker isn't here")
    said = docker("image", "inspect", f"companion/{name}:dev")
    if said.returncode:
        pytest.skip(f"companion/{name}:dev isn't built here")
    found: Sequence[Mapping[str, Any]] = json.loads(said.stdout)
    return found[0]


@cache
def inside(name: str) -> Mapping[str, Any]:
    """What a process sees in an image, with all closed that compose and Kubernetes close."""
    about(name)
    said = docker(
        *("run", "-i", *CLOSED, "--entrypoint", "python", f"companion/{name}:dev", "-"),
        given=INSIDE.read_text("utf-8"),
    )
    assert said.returncode == 0, said.stderr
    found: Mapping[str, Any] = json.loads(said.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small(name: str) -> None:
    assert about(name)["Size"] <= LIMIT_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_a_numbered_user_and_ends_on_term(name: str) -> None:
    configured = about(name)["Config"]
    assert (configured["User"], configured["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert inside(name)["user"] == [10001, 10001]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_asked_how_it_is(name: str) -> None:
    test = about(name)["Config"]["Healthcheck"]["Test"]
    assert test == ["CMD", "python", "-I", "-S", "/app/shared/probe.py", "health"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_tmp_can_be_written_to(name: str) -> None:
    assert inside(name)["writable"] == ["/tmp"]


@pytest.mark.parametrize("name", NAMES)
def test_there_is_python_and_no_other_program(name: str) -> None:
    assert set(inside(name)["programs"]) <= PYTHON
    allowed = {"deploy"} if name == "tools" else set()
    assert set(inside(name)["unwanted"]) <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_compiled_when_a_process_starts(name: str) -> None:
    assert inside(name)["uncompiled"] == []
    assert inside(name)["modules"] > 500, "the search itself must find something"


@pytest.mark.parametrize("name", SERVICES)
def test_another_services_rooms_cannot_be_imported(name: str) -> None:
    assert inside(name)["services"] == [name]


@pytest.mark.parametrize("name", SERVICES)
def test_all_that_a_service_is_made_of_can_be_imported(name: str) -> None:
    assert inside(name)["broken"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_kits_of_key_services_are_where_keys_are_wrapped(name: str) -> None:
    assert inside(name)["kits"] == (["boto3", "hvac"] if name in ("keyvault", "tools") else [])


def test_the_engine_that_needs_no_key_is_in_voices_image_alone_and_speaks_there() -> None:
    others = [inside(name)["spoken"] for name in NAMES if name != "voice"]
    assert others == [None] * len(others)
    spoken = inside("voice")["spoken"]
    if spoken is None:
        pytest.skip("companion/voice:dev was built without the engine (OFFLINE_ENGINE)")
    assert spoken > 10_000, "half a second at least"


@pytest.mark.parametrize("name", NAMES)
def test_usage_becomes_a_file_and_is_read_again_where_the_ledger_is_kept_and_verified(
    name: str,
) -> None:
    made = {"written": "PAR1", "read": "a", "bucket": "S3FileSystem"}
    assert inside(name)["usage"] == (made if name in ("billing", "tools") else None)


@pytest.mark.parametrize("name", NAMES)
def test_billing_makes_invoices_with_what_is_left_of_their_packages(name: str) -> None:
    assert inside(name)["invoice"] == ("%PDF-" if name == "billing" else None)


@pytest.mark.parametrize("name", NAMES)
def test_certificates_and_time_zones_are_there(name: str) -> None:
    assert inside(name)["authorities"] > 50
    assert inside(name)["zone"] == "Europe/Berlin"


@pytest.mark.parametrize("name", NAMES)
def test_the_bill_of_materials_is_valid_and_names_both_kinds_of_packages(name: str) -> None:
    bill = inside(name)["bill"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    purls = {component["purl"].partition("@")[0] for component in bill["components"]}
    assert {"pkg:pypi/httpx", "pkg:deb/debian/libc6", "pkg:deb/debian/tzdata"} <= purls


@pytest.mark.parametrize("name", NAMES)
def test_the_history_tells_nothing_of_the_machine_that_built_it(name: str) -> None:
    about(name)
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", f"companion/{name}:dev")
    told = history.stdout + json.dumps(about(name)["Config"]["Env"])
    assert not any(word in told for word in ("://", "PIP_", "UV_", "PROXY", "proxy", "BUILD_IMAGE"))


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("role", ["web", "worker"])
def test_missing_settings_end_a_start_and_are_named(name: str, role: str) -> None:
    about(name)
    said = docker("run", *CLOSED, f"companion/{name}:dev", role)
    assert said.returncode not in (0, 125, 126, 127)
    assert "DATABASE_URL" in said.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", SERVICES)
def test_what_has_not_started_is_not_healthy(name: str) -> None:
    program, *words = about(name)["Config"]["Healthcheck"]["Test"][1:]
    said = docker("run", *CLOSED, "--entrypoint", program, f"companion/{name}:dev", *words)
    assert (said.returncode, said.stdout + said.stderr) == (1, "")


def test_the_operators_image_has_their_commands() -> None:
    about("tools")
    assert "Usage" in docker("run", *CLOSED, "companion/tools:dev", "--help").stdout


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_the_operators_image_has_what_a_backup_needs(program: str) -> None:
    about("tools")
    find = f"from deploy.companion.backup.estate import program; print(program('{program}'))"
    found = docker("run", *CLOSED, "--entrypoint", "python", "companion/tools:dev", "-c", find)
    assert found.returncode == 0, found.stderr
    said = docker("run", *CLOSED, "--entrypoint", found.stdout.strip(), "companion/tools:dev", "-V")
    assert "(PostgreSQL) 18" in said.stdout, said.stderr


def test_the_simulators_image_has_the_simulator() -> None:
    about("simulator")
    assert "--port" in docker("run", *CLOSED, "companion/simulator:dev", "--help").stdout
