"""`python -m tests.web.process FILE PORT`: serves the pages of a configuration file, as a process of its own."""

import sys
from dataclasses import replace
from pathlib import Path

from worker import logs
from worker.config import Web, load
from worker.web import serve

if __name__ == "__main__":
    logs.configure()
    serve(replace(load(Path(sys.argv[1])), web=Web(port=int(sys.argv[2]))))
