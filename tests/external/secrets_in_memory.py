"""An API server that has Secrets and nothing else."""

import base64
from typing import Any

from visualindex_operator.kube import Manifest


class SecretsInMemory:
    """`Kube` as far as an external cluster's home asks for it: whatever else is called fails the test."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}

    def put(self, name: str, namespace: str = "shop", **values: str) -> None:
        """A Secret with these values."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.secrets[namespace, name] = data

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        assert kind == "Secret"
        data = self.secrets.get((namespace, name))
        return None if data is None else {"metadata": {"name": name}, "data": data}

    async def apply(self, manifest: Manifest) -> Manifest:
        raise NotImplementedError

    async def patch(self, kind: str, namespace: str, name: str, operations: list[Manifest]) -> None:
        raise NotImplementedError

    async def create(self, manifest: Manifest) -> bool:
        raise NotImplementedError

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        raise NotImplementedError

    async def write_status(self, namespace: str, name: str, status: Any) -> None:
        raise NotImplementedError
