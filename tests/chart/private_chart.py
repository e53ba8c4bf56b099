"""The chart, renamed so far that a test may install and delete its cluster-wide parts."""

from dataclasses import dataclass
from pathlib import Path

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
