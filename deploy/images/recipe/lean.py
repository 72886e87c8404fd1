"""Takes out of installed packages what no process of ours reads, then compiles the rest.

`... .recipe.lean FOLDER`. Bytecode is made here, as the file system is read-only later. Tracebacks
keep files and line numbers, but not the lines of packages; our own code has its source.
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

ARROW_UNUSED = (
    *("azurefs", "gcsfs", "hdfs", "csv", "json", "orc", "dataset_orc", "feather", "substrait"),
    *("parquet_encryption", "dataset_parquet_encryption"),
)
PICTURES_UNUSED = (
    *("avif", "webp", "webpmux", "webpdemux", "sharpyuv", "freetype", "harfbuzz", "png16"),
    *("brotlicommon", "brotlidec"),
)
WEIGHTS_UNUSED = ("*It", "Black", "Bold", "ExtraLight", "Light")

# For compilers and type checkers, and packages' own tests.
UNREAD_FILES = ("*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c", "*.cpp", "*.h", "*.hpp", "*.a", "*.exe")
UNREAD = (
    "bin",
    "include",
    "share",
    "*/tests",
    "*/test",
    "*/include",
    "*/src",
    "*.dist-info/RECORD",
    "sqlalchemy/testing",
    # Arrow's network services: billing writes and reads files. Its other libraries need each other.
    "pyarrow/libarrow_flight.so*",
    "pyarrow/libarrow_python_flight.so*",
    "pyarrow/_flight*",
    "pyarrow/_pyarrow_cpp_tests*",
    "pyarrow/_cuda*",
    "pyarrow/gandiva*",
    # Formats and stores that nothing of ours has, each an extension of its own.
    *(f"pyarrow/_{name}.*.so" for name in ARROW_UNUSED),
    "pyarrow/libarrow_python_parquet_encryption.so*",
    # Types of what is sent to Stripe, imported by type checkers alone, and of the thin events of
    # its second interface, imported by who reads such.
    "stripe/params",
    "stripe/events",
    # Invoices hold no pictures, and no text that is one.
    "PIL/_avif*",
    "PIL/_webp*",
    "PIL/_imagingft*",
    *(f"pillow.libs/lib{name}-*" for name in PICTURES_UNUSED),
    # They are set in two of the font's weights, in its TrueType form.
    "font_source_sans_pro/files/*.otf",
    *(f"font_source_sans_pro/files/*-{weight}.ttf" for weight in WEIGHTS_UNUSED),
    # How wide single programs for terminals show a sign: it does without, and none runs here.
    "wcwidth/table_grapheme_overrides/_known_*",
)
# Of the hundreds that botocore describes: KMS, and where credentials for it come from.
AWS_SERVICES = {"kms", "signin", "sso", "sso-oidc", "sts"}


def take_out(folder: Path) -> None:
    for pattern in UNREAD:
        for found in folder.glob(pattern):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    for pattern in UNREAD_FILES:
        for found in folder.rglob(pattern):
            found.unlink()
    for service in folder.glob("botocore/data/*/"):
        if service.name not in AWS_SERVICES:
            shutil.rmtree(service)


def link_twins(folder: Path) -> None:
    """Wheels can't hold links, so a library may be there under each of its names."""
    for library in folder.rglob("*.so.*"):
        for shorter in library.parent.glob(f"{library.name.split('.so')[0]}.so*"):
            if (
                len(shorter.name) < len(library.name)
                and not shorter.is_symlink()
                and shorter.read_bytes() == library.read_bytes()
            ):
                shorter.unlink()
                shorter.symlink_to(library.name)


def strip(folder: Path) -> None:
    """Symbols for debuggers are most of some extensions. What auditwheel rewrote is left alone,
    as strip may break it."""
    libraries = [
        file
        for file in folder.rglob("*.so*")
        if not file.is_symlink() and not file.parent.name.endswith(".libs")
    ]
    if libraries:
        subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)  # noqa: S603, S607


def compile_all(folder: Path, runs_at: str) -> None:
    """Bytecode in place of the source: it is what runs, and half of the size."""
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)
    compileall.compile_dir(
        folder,
        quiet=1,
        workers=os.cpu_count() or 1,
        legacy=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=str(folder),
        prependdir=runs_at,
    )
    for source in folder.rglob("*.py"):
        if source.with_suffix(".pyc").exists():
            source.unlink()


if __name__ == "__main__":
    here = Path(sys.argv[1])
    here.mkdir(parents=True, exist_ok=True)
    take_out(here)
    link_twins(here)
    strip(here)
    compile_all(here, "/app/lib")
