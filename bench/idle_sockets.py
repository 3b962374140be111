"""What an idle socket holds of the web process: 1,000 of them, each following a session.

PSS of the web process before and after, divided; the kernel's own socket memory is not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from bench.figures import Figure
from tests.deployment import BASE_DIR, Deployment, Shape
from tests.servers import PostgreSQL, Redis

SOCKETS = 1_000
REPEATS = 5
WARM = 50  # code, threads and database connections that the first sockets bring
AT_ONCE = 50
SETTLE_SECONDS = 5.0
PROMISED_KB = 60


def measure(shapes: tuple[Shape, ...] = ("embedded", "production")) -> Iterator[Figure]:
    for shape in shapes:
        memory, cpu = zip(*[once(shape) for _ in range(REPEATS)], strict=True)
        yield Figure("idle socket, following a session", shape, "KB", memory, PROMISED_KB)
        yield Figure("1,000 idle sockets, processor", shape, "% of a core", cpu)


def once(shape: Shape) -> tuple[float, float]:
    """A web process of its own each time: what the sockets before left cannot be counted."""
    with only_web(shape) as house:
        return asyncio.run(per_socket(house))


@contextlib.contextmanager
def only_web(
    shape: Shape, *, program: Path = BASE_DIR, env: dict[str, str] | None = None
) -> Iterator[Deployment]:
    with contextlib.ExitStack() as stack:
        production = shape == "production"
        postgres = stack.enter_context(PostgreSQL.running()) if production else None
        redis = stack.enter_context(Redis.running()) if production else None
        house = Deployment(shape, postgres=postgres, redis=redis, program=program, env=env)
        stack.callback(house.remove)
        house.prepare()
        house.start_web()
        yield house


async def per_socket(house: Deployment) -> tuple[float, float]:
    """KB for each of many sockets, and what all of them together cost while nothing happens."""
    session = str(house.post("sessions", {"mode": "one-shot"})["session_id"])
    pid = house.processes["web"].pid
    sockets = await many(house, session, WARM)
    before = pss_kb(pid)
    sockets += await many(house, session, SOCKETS)
    await asyncio.sleep(SETTLE_SECONDS)
    busy = cpu_seconds(pid)
    await asyncio.sleep(SETTLE_SECONDS)
    busy = cpu_seconds(pid) - busy
    memory = (pss_kb(pid) - before) / SOCKETS
    await asyncio.gather(*[socket.close() for socket in sockets])
    return memory, 100 * busy / SETTLE_SECONDS


async def many(house: Deployment, session: str, number: int) -> list[ClientConnection]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> ClientConnection:
        async with gate:
            url = f"ws://127.0.0.1:{house.port}/ws/sessions/{session}/"
            headers = {"Authorization": f"Bearer {house.token}"}
            socket = await connect(
                url, additional_headers=headers, proxy=None, compression=None, ping_interval=None
            )
            while '"live"' not in str(await socket.recv()):
                pass
            return socket

    return list(await asyncio.gather(*[one() for _ in range(number)]))


def pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # USER_HZ is 100 on every Linux we run on
