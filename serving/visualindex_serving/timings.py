"""How long the steps of a search took."""

from dataclasses import dataclass, field


@dataclass
class Timings:
    """Milliseconds by step, for `Server-Timing` and `explain`."""

    steps: dict[str, float] = field(default_factory=dict)

    def add(self, step: str, milliseconds: float) -> None:
        """Record a step."""
        self.steps[step] = self.steps.get(step, 0.0) + milliseconds

    def header(self) -> str:
        """The value of a `Server-Timing` header."""
        return ", ".join(f"{step};dur={ms:.2f}" for step, ms in self.steps.items())
