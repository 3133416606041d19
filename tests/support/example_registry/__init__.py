"""The registry of docs/adding-a-registry.md: its server is here, its driver and its row are in the page itself."""

import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).resolve().parents[3] / "docs" / "adding-a-registry.md"


def blocks() -> dict[str, str]:
    """The Python of the page, by the file that each block names in its first line."""
    matches = re.findall(r"^```python\n(# (\S+\.py)\n.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {path: text for text, path in matches}


def load(path: str, **names: object) -> ModuleType:
    """A block of the page as a module. `names`: the names that the extended file already defines."""
    module = ModuleType(f"{__name__}.page.{Path(path).stem}")
    module.__dict__.update(names)
    sys.modules[module.__name__] = module  # msgspec and dataclasses look their annotations up there
    exec(compile(blocks()[path], f"{PAGE.name}: {path}", "exec"), module.__dict__)  # noqa: S102 - our own page
    return module
