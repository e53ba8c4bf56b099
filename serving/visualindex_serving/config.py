"""What a running part of the service knows of its surroundings: the specs, and the environment of its node.

Specs travel as application arguments and are visible in Serve's status; everything secret or local to a node comes
from the environment instead.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray.util

from visualindex import credentials
from visualindex.credentials import Credentials
from visualindex.spec import VisualIndex

Mode = Literal["local", "cluster"]


@dataclass(frozen=True)
class Runtime:
    """The environment of one process of the service."""

    credentials: Credentials
    state_dir: Path
    mode: Mode
    listen_host: str
    gateways_here: int
    """Gateways that share this machine's cores."""

    @classmethod
    async def from_env(cls) -> "Runtime":
        """Read the VISUALINDEX_* variables. Raises ProblemError UNAVAILABLE naming what is missing."""
        mode = os.environ.get("VISUALINDEX_MODE", "cluster")
        return cls(
            credentials=await credentials.from_environment(),
            state_dir=Path(os.environ.get("VISUALINDEX_STATE_DIR", "/var/lib/visualindex")),
            mode="local" if mode == "local" else "cluster",
            listen_host=os.environ.get("VISUALINDEX_LISTEN_HOST", ""),
            gateways_here=int(os.environ.get("VISUALINDEX_GATEWAYS_HERE", "1")),
        )

    @property
    def cache_dir(self) -> Path:
        """Where weights and other rebuildable files of this node are kept."""
        return self.state_dir / "cache"

    def placed(self, index: VisualIndex) -> VisualIndex:
        """The resource as it holds here: without an operator nobody but the gateways carries rebuilds out."""
        if self.mode == "cluster" or index.spec.reindex.placement == "Service":
            return index
        reindex = index.spec.reindex.model_copy(update={"placement": "Service"})
        return index.model_copy(update={"spec": index.spec.model_copy(update={"reindex": reindex})})

    def node_address(self) -> str:
        """Where other processes of the service reach one on this node: loopback when all of them are on it."""
        if self.mode == "local":
            return "127.0.0.1"
        return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]

    def open_access(self, index: VisualIndex) -> bool:
        """Whether an index may be used without a key: only in local mode and on loopback."""
        loopback = self.mode == "local" and self.listen_host in ("127.0.0.1", "::1", "localhost")
        return loopback and index.spec.access.mode in ("auto", "open")


def read_specs(documents: list[dict[str, Any]]) -> list[VisualIndex]:
    """The specs out of application arguments."""
    return [VisualIndex.model_validate(document) for document in documents]
