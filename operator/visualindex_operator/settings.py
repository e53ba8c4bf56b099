"""How the operator was installed: everything the chart can set, read from the environment once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from visualindex.spec.models import RedisSpec, SecretKeyRef

_PREFIX = "VISUALINDEX_OPERATOR_"


@dataclass(frozen=True)
class Settings:
    """The operator's own settings."""

    namespaces: tuple[str, ...] = ()
    """Namespaces that are watched; empty is all of them."""
    image: str = "visualindex"
    """Image of Ray pods and jobs where a spec names none."""
    image_pull_policy: str = "IfNotPresent"
    redis: RedisSpec | None = None
    """Where Ray heads keep their state where a spec says nothing."""
    peering: str = ""
    """Name of the kopf peering that several operators agree by; empty for one that stands alone."""
    priority: int = 0
    liveness_port: int = 8080
    metrics_port: int = 9090
    resync_s: float = 5.0
    """The longest time between two looks at a resource: within it drift is repaired."""
    ray_version: str = field(default_factory=lambda: version("ray"))

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Reads the VISUALINDEX_OPERATOR_* variables. Raises ValueError naming a variable that is wrong."""

        def get(name: str, default: str = "") -> str:
            return environment.get(_PREFIX + name, "") or default

        return cls(
            namespaces=tuple(part.strip() for part in get("NAMESPACES").split(",") if part.strip()),
            image=get("IMAGE", cls.image),
            image_pull_policy=get("IMAGE_PULL_POLICY", cls.image_pull_policy),
            redis=_redis(get("REDIS_ADDRESS"), get("REDIS_PASSWORD_SECRET")),
            peering=get("PEERING"),
            priority=_integer("PRIORITY", get("PRIORITY", "0")),
            liveness_port=_integer("LIVENESS_PORT", get("LIVENESS_PORT", "8080")),
            metrics_port=_integer("METRICS_PORT", get("METRICS_PORT", "9090")),
        )


def _redis(address: str, secret: str) -> RedisSpec | None:
    if not address:
        return None
    name, _, key = secret.partition("/")
    if secret and not key:
        raise ValueError(f"{_PREFIX}REDIS_PASSWORD_SECRET is '{secret}': write SECRET/KEY")
    return RedisSpec(
        address=address, password_secret_ref=SecretKeyRef(name=name, key=key) if secret else None
    )


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{_PREFIX}{name} is '{text}': write a whole number") from None
