"""Each service starts with the packages of its image alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.companion.programs import SERVICES

ROOT = Path(__file__).parents[3]

# Whoever imports what another image has fails here as it would there.
_PROGRAM = """
import re
import sys
from importlib.metadata import packages_distributions

service, *installed = sys.argv[1:]
ours = {name.lower() for name in installed}
def known(names):
    return any(re.sub(r"[-_.]+", "-", name).lower() in ours for name in names)
away = {top for top, names in packages_distributions().items() if not known(names)}
away -= {"services", "shared", "deploy", "tests", "bench"} | set(sys.stdlib_module_names)

class Away:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in away:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Away())
__import__(f"services.{service}.app")
__import__(f"services.{service}.wiring")
__import__(f"services.{service}.tasks")
"""


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_needs_no_package_of_another(service: str) -> None:
    text = (ROOT / "requirements" / f"{service}.txt").read_text("utf-8")
    installed = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", text, re.MULTILINE)
    names = [re.sub(r"[-_.]+", "-", name) for name in installed]
    command = [sys.executable, "-c", _PROGRAM, service, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("lock", ["key-services", "tools"])
def test_keyvault_and_the_operators_find_the_kits_of_key_services(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")
    installed = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", text, re.MULTILINE)
    names = [re.sub(r"[-_.]+", "-", name) for name in installed]
    # As the two providers load them.
    kits = "\nimport boto3, botocore.config, hvac.exceptions\n"
    command = [sys.executable, "-c", _PROGRAM + kits, "keyvault", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


def test_an_image_that_was_built_with_the_engine_finds_it() -> None:
    text = (ROOT / "requirements" / "voice-offline.txt").read_text("utf-8")
    installed = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", text, re.MULTILINE)
    names = [re.sub(r"[-_.]+", "-", name) for name in installed]
    # As the provider finds it.
    engine = "\nfrom services.voice.providers.espeak import installed\nassert installed().voices\n"
    for known, code in ((names, 0), ([n for n in names if n != "espeakng-loader"], 1)):
        command = [sys.executable, "-c", _PROGRAM + engine, "voice", *known]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


def test_the_operators_have_what_reads_the_ledgers_files() -> None:
    files = [ROOT / "requirements" / f"{lock}.txt" for lock in ("tools", "billing")]
    pins = [re.findall(r"^pyarrow==\S+", file.read_text("utf-8"), re.M) for file in files]
    assert pins[0] == pins[1] != [], "`companion ledger archive verify` needs it"
