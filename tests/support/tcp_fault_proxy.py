"""A TCP proxy in front of a server on this machine: it loses, cuts or delays bytes of any protocol.

It does not read the bytes; `http_fault_proxy` chooses HTTP requests.

Bytes that a black hole swallowed arrive when it closes, as TCP sends unacknowledged bytes again.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

CHUNK = 64 * 1024


class TcpFaultProxy:
    """The link to one server. The methods may be called from any thread, and take effect at once."""

    def __init__(self, target: int) -> None:
        self.target = target  # the server's port
        self.port = 0  # ours
        self.struck = 0  # how often anything was lost, cut or held back
        self._lose = self._cut = 0  # replies yet to be lost, connections yet to be cut
        self._after = 0  # bytes of answers after which a connection is cut
        self._open: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def well(self) -> bool:
        """Whether everything passes now."""
        return not self._lose and not self._cut and (self._open is None or self._open.is_set())

    def lose_replies(self, count: int = 1) -> None:
        """Lose the next responses: the server carries the requests out, and the connection closes."""
        self._lose = count

    def cut_after(self, size: int, count: int = 1) -> None:
        """Cut the next connections after this many bytes of responses."""
        self._cut, self._after = count, size

    def black_hole(self, seconds: float) -> None:
        """Hold back all bytes and all new connections for this many seconds."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._close_for, seconds)

    def _close_for(self, seconds: float) -> None:
        assert self._open is not None
        self._open.clear()
        asyncio.get_running_loop().call_later(seconds, self._open.set)

    # One connection

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._pass()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            both = [self._ask(reader, far_writer), self._answer(far_reader, writer)]
            tasks = [asyncio.ensure_future(direction) for direction in both]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                far_writer.close()
        writer.close()

    async def _pass(self) -> None:
        assert self._open is not None
        if not self._open.is_set():
            self.struck += 1
            await self._open.wait()

    async def _ask(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._pass()
            far.write(data)
            await far.drain()

    async def _answer(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left: int | None = None  # bytes until this connection is cut
        while data := await far.read(CHUNK):
            await self._pass()
            if self._lose:
                self._lose -= 1
                self.struck += 1
                return
            if left is None and self._cut:
                self._cut -= 1
                left = self._after
            if left is not None:
                writer.write(data[:left])
                await writer.drain()
                left -= len(data)
                if left <= 0:
                    self.struck += 1
                    return
                continue
            writer.write(data)
            await writer.drain()

    # The thread around it

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            self._loop, self._open = asyncio.get_running_loop(), asyncio.Event()
            self._open.set()
            server = await asyncio.start_server(self._link, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            async with server:
                await server.serve_forever()

        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(serve())

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[TcpFaultProxy]:
    """A link to a server on this machine, without faults at first."""
    made, ready = TcpFaultProxy(port), threading.Event()
    thread = threading.Thread(target=made._run, args=(ready,), name="proxy", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield made
    finally:
        assert made._loop is not None
        made._loop.call_soon_threadsafe(made._stop)
        thread.join(10)
