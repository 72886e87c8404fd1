"""What this machine needs to reach registries: authorities, proxies, mirrors.

All of it goes into a local image that only builds; finished images get nothing of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from deploy.images import engine

BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
_BUNDLE_SETTINGS: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
_PASSED_ON: Final = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT"),
)
_APT: Final = ("Acquire::http", "Acquire::https", "Acquire::Check-")


def authorities() -> Path | None:
    """The file with the authorities that this machine trusts."""
    named = [os.environ[name] for name in _BUNDLE_SETTINGS if os.environ.get(name)]
    return next((Path(file) for file in (*named, BUNDLE) if Path(file).is_file()), None)


def variables() -> Mapping[str, str]:
    """What package managers read from their environment."""
    given = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    if "PIP_INDEX_URL" in given:
        given.setdefault("UV_DEFAULT_INDEX", given["PIP_INDEX_URL"])
    return given


def apt_settings() -> str:
    """This machine's proxies for Debian's archive, and how strict it is with its dates."""
    if shutil.which("apt-config") is None:
        return ""
    return "".join(
        f"{line}\n" for line in engine.run(["apt-config", "dump"]).splitlines() if _ours(line)
    )


def _ours(line: str) -> bool:
    return line.startswith(_APT) and '""' not in line


def builder(base: str, folder: Path) -> Path:
    """The context of an image that is `base` with all this. The folder is written to."""
    (folder / "apt.conf").write_text(apt_settings(), "utf-8")
    (folder / "Dockerfile").write_text("\n".join(_lines(base, folder)) + "\n", "utf-8")
    return folder


def _lines(base: str, folder: Path) -> Iterator[str]:
    yield f"FROM {base}"
    yield "COPY apt.conf /etc/apt/apt.conf.d/90machine"
    if bundle := authorities():
        shutil.copyfile(bundle, folder / "authorities.crt")
        yield f"COPY authorities.crt {BUNDLE}"
        yield f"ENV PIP_CERT={BUNDLE} SSL_CERT_FILE={BUNDLE}"
    for name, value in variables().items():
        yield f'ENV {name}="{value}"'
