"""The environment variables in a Serve configuration: where secrets are, and where Ray hides them."""

from collections.abc import Iterator, Mapping
from typing import Any


def environment_values(node: Any) -> Iterator[Any]:
    """The values of all environment variables anywhere in a configuration."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "env_vars" and isinstance(value, Mapping):
                yield from value.values()
            else:
                yield from environment_values(value)
    elif isinstance(node, list):
        for item in node:
            yield from environment_values(item)
