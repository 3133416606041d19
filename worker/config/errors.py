"""What is raised when the configuration cannot be used."""

from dataclasses import dataclass
from pathlib import Path

from policies.mistakes import Mistake


@dataclass(eq=False)
class ConfigError(Exception):
    """The configuration cannot be used. Every mistake that could be found is in it, not only the first."""

    exit_code = 2

    mistakes: tuple[Mistake, ...]
    path: Path

    @property
    def lines(self) -> tuple[str, ...]:
        """One line a mistake: "file: path: what, got …; remedy"."""
        return tuple(f"{self.path}: {mistake}" for mistake in self.mistakes)

    def __str__(self) -> str:
        return "\n".join(self.lines)
