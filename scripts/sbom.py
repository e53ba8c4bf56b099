"""Adds the Debian packages of the system it runs on to a CycloneDX document of Python packages: `sbom.py IN.json OUT.json`.

Run inside the image's file system (see the Dockerfile), with cyclonedx-python-lib installed.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_FIELDS = r"${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"


def main(source: Path, target: Path) -> None:
    """Read the document, add this system's packages, write it."""
    bom = Bom.from_json(json.loads(source.read_text()))
    listing = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={_FIELDS}"],  # noqa: S607 - the image's own
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    packages = list(debian_packages(listing, distribution()))
    bom.components.update(packages)
    if bom.metadata.component is not None:
        bom.register_dependency(bom.metadata.component, packages)
    target.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")


def distribution() -> str:
    """Name and version of the distribution, such as `debian-12`."""
    lines = Path("/etc/os-release").read_text().splitlines()
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    return f"{facts['ID']}-{facts.get('VERSION_ID', '')}".replace('"', "").rstrip("-")


def debian_packages(listing: str, distro: str) -> Iterator[Component]:
    """The installed packages out of what dpkg-query printed: name, version, architecture and state, by tabs."""
    for line in listing.splitlines():
        name, version, architecture, state = line.split("\t")
        if state == "installed":
            purl = PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": distro})
            yield Component(
                type=ComponentType.LIBRARY,
                name=name,
                version=version,
                purl=purl,
                bom_ref=purl.to_string(),
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
