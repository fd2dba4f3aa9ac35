"""A proxy between the programs and Redis: it delays replies, cuts connections, and can forward to another server.

The proxy is a program of the stand, since a thread in the tests' process would make forks unsafe; a control file routes it.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from support.live.stand import Program, Stand

POLL_SECONDS = 0.02
CHUNK_BYTES = 1 << 16


class SlowProxy:
    """The tests' end. Make the proxy first, then the stand with the proxy's ``url`` as ``redis.url``; then call ``start``."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder`` for the socket, whose path must be short, and the control file."""
        self.socket = folder / "p.sock"
        self.url = f"unix://{self.socket}"
        self._control_file = folder / "control.json"

    def start(self, stand: Stand) -> Program:
        """Start the proxy, which forwards to the stand's server, and wait until it listens."""
        self.route(stand.socket)
        argv = (sys.executable, "-m", "support.live.slow_proxy", str(self.socket), str(self._control_file))
        program = stand.program("proxy", argv, lambda _start: self.socket.exists())
        program.start()
        return program

    def route(self, server: Path, delay_seconds: float = 0.0) -> None:
        """Forward to this server and delay each reply; cut the connections to any other server."""
        unfinished = self._control_file.with_suffix(".new")
        unfinished.write_text(json.dumps([str(server), delay_seconds]), "ascii")
        unfinished.rename(self._control_file)


class _Proxy:
    """The program's end: forwards connections as the control file says."""

    def __init__(self, control_file: Path) -> None:
        self._control_file = control_file
        self._servers: dict[asyncio.StreamWriter, str] = {}
        self.server, self.delay_seconds = "", 0.0
        self.read_control_file()

    def read_control_file(self) -> None:
        self.server, self.delay_seconds = json.loads(self._control_file.read_text("ascii"))
        for writer, server in list(self._servers.items()):
            if server != self.server:
                writer.transport.abort()

    async def poll_control_file(self) -> None:
        while True:
            self.read_control_file()
            await asyncio.sleep(POLL_SECONDS)

    async def serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server = self.server
        try:
            from_server, to_server = await asyncio.open_unix_connection(server)
        except OSError:
            to_client.transport.abort()
            return
        self._servers |= {to_client: server, to_server: server}
        pumps = {
            asyncio.create_task(_pump(from_client, to_server)),
            asyncio.create_task(self._pump_delayed(from_server, to_client)),
        }
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for writer in (to_client, to_server):
            del self._servers[writer]
            writer.transport.abort()

    async def _pump_delayed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self.delay_seconds)
            writer.write(data)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


async def _main(socket: str, control_file: str) -> None:
    proxy = _Proxy(Path(control_file))
    listener = await asyncio.start_unix_server(proxy.serve, socket)
    async with listener:
        await proxy.poll_control_file()


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(_main(*sys.argv[1:]))
