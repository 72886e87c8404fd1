"""A small Debian, made from its packages where no image can be pulled."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deploy.images import engine
from deploy.images.engine import ImageError
from deploy.images.machine import apt_settings

SUITE: Final = "trixie"

# Nobody reads manuals in a container; licences stay. PostgreSQL's compiler of statements, which our
# settings turn off, is larger than the rest of it. And what is thrown away needs no fsync.
_DPKG: Final = """force-unsafe-io
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/lib/*/libLLVM*
path-exclude=/usr/lib/postgresql/*/lib/llvmjit*
path-exclude=/usr/lib/postgresql/*/lib/bitcode/*
"""
_LEAN_LISTS: Final = 'Acquire::GzipIndexes "true";\nAcquire::Languages "none";\n'
# A package that is installed must not start its server while an image is built.
_NO_SERVERS: Final = "#!/bin/sh\nexit 101\n"


def make(tag: str) -> None:
    """Make the image. Raises ImageError."""
    if shutil.which("debootstrap") is None:
        raise ImageError(
            "No image can be pulled, and debootstrap, which makes one, is not installed;"
            " on Debian: apt-get install debootstrap"
        )
    if os.geteuid() != 0:
        raise ImageError("No image can be pulled, and making one by debootstrap needs root.")
    with TemporaryDirectory(prefix="debian-") as folder:
        root = Path(folder, "root")
        _bootstrap(root)
        archive = Path(folder, "root.tar")
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".", filter=_without_caches)
        engine.run(["docker", "import", "--change", 'CMD ["bash"]', archive, tag])


def _bootstrap(root: Path) -> None:
    # debootstrap knows a mirror by itself.
    mirror = [named] if (named := os.environ.get("DEBIAN_MIRROR")) else []
    first = ("debootstrap", "--variant=minbase", "--foreign", "--include=ca-certificates", SUITE)
    engine.run([*first, root, *mirror])
    _write(root / "etc/dpkg/dpkg.cfg.d/lean", _DPKG)
    engine.run(["chroot", root, "/debootstrap/debootstrap", "--second-stage"])
    _write(root / "etc/apt/apt.conf.d/90machine", apt_settings() + _LEAN_LISTS)
    _write(root / "usr/sbin/policy-rc.d", _NO_SERVERS)
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    # The lists stay: each stand-in installs from them, and none of them is ever rolled out.
    engine.run(["chroot", root, "apt-get", "update", "-qq"])


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


_LEFT_OUT: Final = (
    *("./var/cache/apt/archives/", "./var/cache/apt/pkgcache", "./var/cache/apt/srcpkgcache"),
    *("./usr/share/locale/", "./usr/share/man/", "./var/log/", "./etc/resolv.conf"),
)


def _without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.startswith(_LEFT_OUT) else member
