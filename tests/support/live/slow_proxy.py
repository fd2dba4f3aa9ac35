"""Something between the programs and Redis: it delays replies, cuts connections, and may lead to another server.

It runs as a program of the stand (a thread beside the tests would make their forks unsafe), and is told what to do by a file.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from support.live.stand import Program, Stand

LOOK_SECONDS = 0.02
CHUNK_BYTES = 1 << 16


class SlowProxy:
    """The tests' end. Make it before the stand, whose ``redis.url`` it is; ``open`` it when the stand is there."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is for its socket and its orders; a short path, for the sake of the socket."""
        self.socket = folder / "p.sock"
        self.url = f"unix://{self.socket}"
        self._orders = folder / "orders.json"

    def open(self, stand: Stand) -> Program:
        """Start it before the stand's server, and wait until it listens."""
        self.order(stand.socket)
        argv = (sys.executable, "-m", "support.live.slow_proxy", str(self.socket), str(self._orders))
        program = stand.program("proxy", argv, lambda _start: self.socket.exists())
        program.start()
        return program

    def order(self, server: Path, delay_seconds: float = 0.0) -> None:
        """Lead to this server, each reply late by so much. Connections that lead elsewhere are cut."""
        fresh = self._orders.with_suffix(".new")
        fresh.write_text(json.dumps([str(server), delay_seconds]), "ascii")
        fresh.rename(self._orders)


class _Proxy:
    """The program's end."""

    def __init__(self, orders: Path) -> None:
        self._orders = orders
        self._open: dict[asyncio.StreamWriter, str] = {}
        self.server, self.delay = "", 0.0
        self.obey()

    def obey(self) -> None:
        self.server, self.delay = json.loads(self._orders.read_text("ascii"))
        for writer, server in list(self._open.items()):
            if server != self.server:
                writer.transport.abort()

    async def look(self) -> None:
        while True:
            self.obey()
            await asyncio.sleep(LOOK_SECONDS)

    async def serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server = self.server
        try:
            from_server, to_server = await asyncio.open_unix_connection(server)
        except OSError:
            to_client.transport.abort()
            return
        self._open |= {to_client: server, to_server: server}
        pumps = {
            asyncio.create_task(_pump(from_client, to_server)),
            asyncio.create_task(self._pump_late(from_server, to_client)),
        }
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for writer in (to_client, to_server):
            del self._open[writer]
            writer.transport.abort()

    async def _pump_late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self.delay)
            writer.write(data)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


async def _main(socket: str, orders: str) -> None:
    proxy = _Proxy(Path(orders))
    listener = await asyncio.start_unix_server(proxy.serve, socket)
    async with listener:
        await proxy.look()


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(_main(*sys.argv[1:]))
