"""What the real cluster of the tests runs: an application that says a word and which process said it."""

import os
from typing import Any

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Toy:
    def __init__(self, word: str) -> None:
        self._word = word

    async def __call__(self, _: Any) -> dict[str, Any]:
        return {"word": self._word, "pid": os.getpid()}


def build(args: dict[str, str]) -> serve.Application:
    """The application of a word."""
    return Toy.bind(args["word"])


if __name__ == "__main__":
    import ray

    ray.init(address=os.environ["RAY_ADDRESS"], namespace="somebody-else", log_to_driver=False)
    serve.run(build({"word": "started"}), name="started", route_prefix="/started")
