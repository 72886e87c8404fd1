"""Copies from a base image what Python needs to run: `... .recipe.interpreter TARGET`.

That is the interpreter, its library, the shared libraries that they load, certificates, time zones
and the two users. Which Debian packages these files came from is written where scanners look in
images without a package manager: `/var/lib/dpkg/status.d`.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from deploy.images.recipe.lean import compile_all

UNUSED_LIBRARY = (
    *("test", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3", "ensurepip", "venv"),
    *("pydoc_data", "site-packages", "dist-packages", "sqlite3", "curses", "__phello__"),
)
UNUSED_EXTENSIONS = (
    "_tkinter",
    "_sqlite3",
    "_curses",
    "_curses_panel",
    "_dbm",
    "_gdbm",
    "readline",
)
# What wheels expect of every Linux, and the interpreter itself may not load.
FOR_WHEELS = ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1", "libm.so.6", "librt.so.1")
FOR_WHEELS_TOO = ("libdl.so.2", "libpthread.so.0", "libresolv.so.2", "libutil.so.1")
# A directory here may be a link to one below /usr, as Debian has it.
DATA = (
    *("/etc/ssl/certs/ca-certificates.crt", "/etc/nsswitch.conf", "/etc/mime.types"),
    *("/etc/ld.so.cache", "/etc/debian_version", "/usr/lib/os-release", "/etc/os-release"),
    *("/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf", "/usr/share/zoneinfo"),
)
USERS = "root:x:0:0:root:/:/none\ncompanion:x:10001:10001:companion:/tmp:/none\n"
GROUPS = "root:x:0:\ncompanion:x:10001:\n"


class Copier:
    """Copies files to the same places below another root, links as links."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.copied: set[Path] = set()

    def add(self, path: Path) -> None:
        if path in self.copied:
            return
        there = self._place(path)
        self.copied.add(path)
        if path.is_symlink():
            there.unlink(missing_ok=True)
            there.symlink_to(path.readlink())
            self.add(path.parent / path.readlink())
        elif path.is_dir():
            there.mkdir(parents=True, exist_ok=True)
            for inner in path.iterdir():
                self.add(inner)
        elif path.exists():
            shutil.copy2(path, there, follow_symlinks=False)

    def _place(self, path: Path) -> Path:
        """Below the target, where the path's folder is once its own links are followed."""
        folder = path.parent.resolve()
        there = self.target / folder.relative_to("/")
        there.mkdir(parents=True, exist_ok=True)
        return there / path.name


def add_python(copier: Copier) -> None:
    real = Path(sys.executable).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sys.base_prefix, "lib", version)
    copier.add(real)
    for inner in sorted(library.iterdir()):
        if inner.name == "lib-dynload":
            for extension in inner.iterdir():
                if extension.name.split(".")[0] not in UNUSED_EXTENSIONS:
                    copier.add(extension)
        elif inner.name not in UNUSED_LIBRARY and not inner.name.startswith("config-"):
            copier.add(inner)
    for name in ("python", "python3"):
        command = copier.target / "usr/local/bin" / name
        command.parent.mkdir(parents=True, exist_ok=True)
        if command != copier.target / real.relative_to("/"):
            command.unlink(missing_ok=True)
            command.symlink_to(real)


def libraries_of(files: Iterable[Path]) -> Iterator[Path]:
    """What the loader would load for these files, with the loader."""
    for file in files:
        said = subprocess.run(["ldd", file], capture_output=True, text=True).stdout  # noqa: S603, S607
        for found in re.finditer(r"(/\S+) \(0x", said):
            yield Path(found[1])


def known_libraries() -> dict[str, Path]:
    """Where the loader finds a library of this name."""
    said = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    return {
        found[1]: Path(found[2])
        for found in re.finditer(r"^\s+(\S+) \(libc6.*\) => (\S+)$", said.stdout, re.MULTILINE)
    }


def packages_of(files: set[Path]) -> Iterator[str]:
    """The entries in Debian's list of what is installed that own any of these files."""
    owners = set()
    for listing in Path("/var/lib/dpkg/info").glob("*.list"):
        owned = {Path(line).parent.resolve() / Path(line).name for line in _owned(listing)}
        if owned & files:
            owners.add(listing.name.removesuffix(".list").split(":")[0])
    for entry in Path("/var/lib/dpkg/status").read_text("utf-8").split("\n\n"):
        name = entry.partition("\n")[0].removeprefix("Package: ").strip()
        if name in owners:
            yield entry.strip() + "\n"


def _owned(listing: Path) -> Iterator[str]:
    for line in listing.read_text("utf-8").splitlines():
        if line.startswith(("/usr/lib", "/lib", "/usr/bin", "/etc/ssl", "/usr/share/zoneinfo")):
            yield line


def main(target: Path) -> None:
    copier = Copier(target)
    for link in ("/lib", "/lib64", "/bin", "/sbin"):
        if Path(link).is_symlink():
            target.mkdir(parents=True, exist_ok=True)
            (target / link[1:]).symlink_to(Path(link).readlink())
    add_python(copier)
    native = [f for f in copier.copied if ".so" in f.name or f == Path(sys.executable).resolve()]
    for library in sorted(set(libraries_of(native))):
        copier.add(library)
    known = known_libraries()
    for name in (*FOR_WHEELS, *FOR_WHEELS_TOO):
        copier.add(known[name])
    for path in map(Path, DATA):
        copier.add(path)
    stdlib = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    compile_all(target / sys.base_prefix[1:] / stdlib, f"{sys.base_prefix}/{stdlib}")
    (target / "etc/passwd").write_text(USERS, "utf-8")
    (target / "etc/group").write_text(GROUPS, "utf-8")
    scratch = target / "tmp"
    scratch.mkdir()
    scratch.chmod(0o1777)
    status = target / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    real = {path.parent.resolve() / path.name for path in copier.copied}
    for entry in packages_of(real):
        (status / entry.partition("\n")[0].removeprefix("Package: ")).write_text(entry, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
