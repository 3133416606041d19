"""`python -m tests.support.simulator [--port 0] [--fill demo|empty|FILE.json] [--switch NAME=VALUE …]` runs it."""

import argparse
import asyncio
import contextlib
import signal
import sys

from tests.support.simulator import control
from tests.support.simulator.server import Server, serve
from tests.support.simulator.switches import Switches, UnknownSwitchError, names, turned


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.simulator", description="A registry that is not there."
    )
    parser.add_argument("--port", type=int, default=0, help="0: a free one; it is printed")
    parser.add_argument(
        "--fill", default="empty", help="demo, empty, a number of images, or a JSON file with a list of pushes"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--switch", action="append", default=[], metavar="NAME=VALUE", help=f"of {', '.join(names())}")
    parser.add_argument(
        "--with-parent", action="store_true", help="end when standard input closes: never outlive a killed test"
    )
    return parser.parse_args(words)


async def main(words: list[str]) -> None:
    chosen = arguments(words)
    server = Server(turned(Switches(), dict(pair.split("=", 1) for pair in chosen.switch)), chosen.seed)
    control.run(server, "fill", {"what": chosen.fill, "seed": chosen.seed})
    task = asyncio.ensure_future(serve(server, chosen.port))
    if chosen.with_parent:
        asyncio.get_running_loop().add_reader(sys.stdin, task.cancel)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


try:
    asyncio.run(main(sys.argv[1:]))
except (UnknownSwitchError, ValueError, OSError) as error:
    sys.exit(f"simulator: {error}")
