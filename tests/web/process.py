"""`python -m tests.web.process FILE PORT [LIMIT=VALUE…]` serves the pages of a file."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from worker import logs
from worker.config.settings import load
from worker.web.server import LIMITS, serve

if __name__ == "__main__":
    logs.configure()
    path, port, *limits = sys.argv[1:]
    settings = load(Path(path))
    changed = {name: json.loads(value) for name, _, value in (limit.partition("=") for limit in limits)}
    web = settings.web.model_copy(update={"listen": (settings.web.listen[0], int(port))})
    serve(settings.model_copy(update={"web": web}), replace(LIMITS, **changed))
