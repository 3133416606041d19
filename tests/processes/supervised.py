"""Supervises the programs of its argument, JSON [[name, command, stop seconds]…]; prints every line."""

import json
import sys
from contextlib import suppress

from worker.processes.supervisor import Program, StoppedError, Supervisor, signals_blocked

if __name__ == "__main__":
    programs = [Program(name, tuple(command), stop_seconds) for name, command, stop_seconds in json.loads(sys.argv[1])]
    with signals_blocked(), suppress(StoppedError):
        supervisor = Supervisor(lambda line: print(line, flush=True))  # noqa: T201 -- the test reads it
        try:
            supervisor.start(programs)
            supervisor.watch()
        finally:
            supervisor.stop(programs)
