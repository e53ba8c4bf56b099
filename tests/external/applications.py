"""Applications for the tests of this folder."""

from typing import Any

from visualindex_operator.serve_merge import OWNER


def ours(name: str, owner: str = "shop/chairs", *, route: str | None = None, **more: Any) -> dict[str, Any]:
    """An application of a VisualIndex."""
    return {
        "name": name,
        "route_prefix": route,
        "import_path": "visualindex_serving.app:build_index",
        "runtime_env": {"env_vars": {OWNER: owner}},
        "args": {"index": {"metadata": {"name": name}}},
        **more,
    }


def foreign(name: str, *, route: str | None = None, **more: Any) -> dict[str, Any]:
    """An application of somebody else."""
    return {"name": name, "route_prefix": route, "import_path": "somebody.elses:app", **more}
