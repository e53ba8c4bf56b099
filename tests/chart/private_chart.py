"""The chart, renamed so far that a test may install and delete its cluster-wide parts."""

import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.kubernetes.api_server import ApiServer

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUPS = ("visualindex.dev", "kopf.dev")


@dataclass(frozen=True)
class PrivateChart:
    """A copy of the chart in which every API group ends with `suffix`."""

    path: Path
    suffix: str

    def make_private(self) -> None:
        """Put the suffix behind the groups, in every file and file name."""
        for path in [each for each in self.path.rglob("*") if each.is_file()]:
            text = path.read_text()
            for group in GROUPS:
                text = text.replace(group, f"{group}.{self.suffix}")
            path.write_text(text)
            path.rename(path.with_name(path.name.replace(GROUPS[0], f"{GROUPS[0]}.{self.suffix}")))

    @property
    def definition(self) -> str:
        """Name of the CRD of VisualIndex."""
        return f"visualindexes.visualindex.dev.{self.suffix}"

    @property
    def peering_group(self) -> str:
        """API group of the peerings."""
        return f"kopf.dev.{self.suffix}"

    def define_peerings(self, server: ApiServer) -> None:
        """Apply the peerings' CRDs before the release: without `--wait` Helm does not wait until they are served."""
        for document in yaml.safe_load_all((self.path / "charts/kopf-peering/crds/peering.yaml").read_text()):
            server.request("POST", DEFINITIONS, document, fieldValidation="Strict").expect(201)
        deadline = time.monotonic() + 60
        while not self._served(server) >= {"kopfpeerings", "clusterkopfpeerings"}:
            assert time.monotonic() < deadline, f"{self.peering_group} was not served within 60 s"
            time.sleep(0.1)

    def _served(self, server: ApiServer) -> set[str]:
        """Names of the served resources of the peering group."""
        resources = server.request("GET", f"/apis/{self.peering_group}/v1").body.get("resources", ())
        return {resource["name"] for resource in resources}

    def add_short_name(self, name: str) -> None:
        """A change of the CRD, as a later version of the chart brings it."""
        file = self.path / "files" / f"{self.definition}.yaml"
        text = file.read_text()
        assert "    shortNames:\n" in text
        file.write_text(text.replace("    shortNames:\n", f"    shortNames:\n    - {name}\n"))

    def delete_definitions(self, server: ApiServer) -> None:
        """Take back what Helm leaves, and with it all resources of these types."""
        listing = server.request("GET", DEFINITIONS).expect(200)["items"]
        for name in (item["metadata"]["name"] for item in listing):
            if name.endswith(self.suffix):
                server.request("DELETE", f"{DEFINITIONS}/{name}").expect(200)
