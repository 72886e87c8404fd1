"""Prints what an image is made of, as CycloneDX: `... .recipe.bom SERVICE PACKAGES LIBRARY...`.

PACKAGES is the folder with the entries of Debian packages, each LIBRARY one with Python's.
"""

import sys
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL


def python_components(libraries: Iterable[Path]) -> Iterator[Component]:
    for distribution in distributions(path=[str(library) for library in libraries]):
        name, version = distribution.metadata["Name"], distribution.version
        yield Component(
            name=name,
            version=version,
            bom_ref=f"pypi:{name}@{version}",
            purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
            licenses=_licenses(distribution),
        )


def _licenses(distribution: Distribution) -> Iterable[License]:
    declared = distribution.metadata.get_all("License-Expression") or []
    return [LicenseFactory().make_from_string(expression) for expression in declared]


def debian_components(packages: Path) -> Iterator[Component]:
    for entry in sorted(packages.iterdir()):
        fields = HeaderParser().parsestr(entry.read_text("utf-8"))
        name, version = fields["Package"], fields["Version"]
        yield Component(
            name=name,
            version=version,
            bom_ref=f"deb:{name}@{version}",
            purl=PackageURL("deb", "debian", name, version, {"arch": fields["Architecture"]}),
        )


def bom_of(service: str, packages: Path, libraries: Iterable[Path]) -> str:
    whole = Component(name=f"companion/{service}", type=ComponentType.CONTAINER, bom_ref=service)
    bom = Bom(components=[*python_components(libraries), *debian_components(packages)])
    bom.metadata.component = whole
    bom.metadata.tools.components.add(this_component())
    bom.register_dependency(whole, bom.components)
    writer = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return writer.output_as_string(indent=1)


if __name__ == "__main__":
    print(bom_of(sys.argv[1], Path(sys.argv[2]), [Path(library) for library in sys.argv[3:]]))
