"""The channel layer of one host: real sockets, real processes, several loops and threads."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull

from cmbagent_site.layers import MAX_DATAGRAM, SocketFolder, UnixDatagramLayer

SOON = 2.0
LISTENER = """
import asyncio, sys
from cmbagent_site.layers import UnixDatagramLayer

async def listen():
    layer = UnixDatagramLayer(sys.argv[1])
    channel = await layer.new_channel()
    await layer.group_add("readers", channel)
    print("ready", flush=True)
    while True:
        print((await layer.receive(channel))["text"], flush=True)

asyncio.run(listen())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def layer(folder: Path) -> Iterator[UnixDatagramLayer]:
    layer = UnixDatagramLayer(folder)
    yield layer
    layer.close()


async def member(layer: UnixDatagramLayer, group: str = "readers") -> str:
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    return channel


async def received(layer: UnixDatagramLayer, channel: str) -> dict[str, Any]:
    async with asyncio.timeout(SOON):
        return await layer.receive(channel)


async def hears_nothing(layer: UnixDatagramLayer, channel: str) -> bool:
    try:
        async with asyncio.timeout(0.1):
            await layer.receive(channel)
    except TimeoutError:
        return True
    return False


def listener(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LISTENER, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert line(process) == "ready"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def sockets(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_group_message_reaches_every_member_and_nobody_else(
    layer: UnixDatagramLayer,
) -> None:
    first, second = await member(layer), await member(layer)
    stranger = await member(layer, "others")
    await layer.group_send("readers", {"type": "session.moved", "session": "x"})
    for channel in (first, second):
        assert await received(layer, channel) == {"type": "session.moved", "session": "x"}
    assert await hears_nothing(layer, stranger)


async def test_who_left_the_group_hears_nothing(layer: UnixDatagramLayer) -> None:
    channel = await member(layer)
    await layer.group_discard("readers", channel)
    await layer.group_send("readers", {"type": "a"})
    assert await hears_nothing(layer, channel)


async def test_a_message_to_one_channel(layer: UnixDatagramLayer) -> None:
    first, second = await member(layer), await member(layer)
    await layer.send(second, {"type": "only.you"})
    assert await received(layer, second) == {"type": "only.you"}
    assert await hears_nothing(layer, first)


async def test_a_name_that_no_process_listens_to_is_refused(layer: UnixDatagramLayer) -> None:
    with pytest.raises(TypeError, match="new_channel"):
        await layer.send("a-general-channel", {"type": "a"})


async def test_equal_hints_wait_once_and_the_oldest_are_dropped_first(folder: Path) -> None:
    layer = UnixDatagramLayer(folder, capacity=3)
    channel = await member(layer)
    for number in [0, 0, 0, 1, 2, 3, 4]:
        await layer.group_send("readers", {"type": "n", "n": number})
    await asyncio.sleep(0.2)
    assert [(await received(layer, channel))["n"] for _ in range(3)] == [2, 3, 4]
    assert await hears_nothing(layer, channel)
    layer.close()


async def test_a_cancelled_reader_leaves_nothing_behind(layer: UnixDatagramLayer) -> None:
    channel = await member(layer)
    assert await hears_nothing(layer, channel)
    station = layer._office.station()
    assert not station._boxes
    assert not station._groups


async def test_a_burst_reaches_a_loop_that_is_busy(layer: UnixDatagramLayer) -> None:
    channel = await member(layer)

    def send_burst() -> None:
        for number in range(50):
            async_to_sync(layer.group_send)("readers", {"type": "n", "n": number})

    sender = threading.Thread(target=send_burst)
    sender.start()
    time.sleep(0.3)  # noqa: ASYNC251  the loop is busy: that is the point
    numbers = [(await received(layer, channel))["n"] for _ in range(50)]
    sender.join()
    assert numbers == list(range(50))


async def test_plain_threads_send_each_from_its_own_short_loop(layer: UnixDatagramLayer) -> None:
    channel = await member(layer)

    def send(number: int) -> None:
        async_to_sync(layer.group_send)("readers", {"type": "n", "n": number})

    await asyncio.gather(*[asyncio.to_thread(send, number) for number in range(20)])
    numbers = {(await received(layer, channel))["n"] for _ in range(20)}
    assert numbers == set(range(20))


def test_a_loop_that_was_closed_is_no_obstacle(layer: UnixDatagramLayer) -> None:
    asyncio.run(member(layer))

    async def send_and_receive() -> dict[str, Any]:
        channel = await member(layer)
        await layer.group_send("readers", {"type": "a"})
        return await received(layer, channel)

    assert asyncio.run(send_and_receive()) == {"type": "a"}
    assert len(sockets(layer._office._path)) == 1


def test_another_process_hears(layer: UnixDatagramLayer, folder: Path) -> None:
    process = listener(folder)
    try:
        async_to_sync(layer.group_send)("readers", {"type": "t", "text": "hello"})
        assert line(process) == "hello"
    finally:
        end(process)


def test_the_socket_of_a_killed_process_is_removed(layer: UnixDatagramLayer, folder: Path) -> None:
    process = listener(folder)
    assert len(sockets(folder)) == 1
    end(process)
    async_to_sync(layer.group_send)("readers", {"type": "a"})
    assert sockets(folder) == []


def test_a_frozen_receiver_costs_hints_and_hardly_any_time(
    layer: UnixDatagramLayer, folder: Path
) -> None:
    process = listener(folder)
    process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        for number in range(30):
            async_to_sync(layer.group_send)("readers", {"type": "t", "text": str(number)})
        assert time.monotonic() - started < SOON
        process.send_signal(signal.SIGCONT)
        assert line(process) == "0"
    finally:
        end(process)


async def test_a_full_buffer_is_told_to_who_sends_to_one_channel(
    layer: UnixDatagramLayer, folder: Path
) -> None:
    office = SocketFolder(folder)
    deaf = office.bind("layer-1-deaf")

    async def send_many() -> None:
        for _ in range(10_000):
            await layer.send("specific.layer-1-deaf!x", {"type": "a"})

    with pytest.raises(ChannelFull):
        await send_many()
    deaf.close()
    office.close()


async def test_a_forked_child_sends_and_does_not_take_the_parents_socket(
    layer: UnixDatagramLayer, folder: Path
) -> None:
    channel = await member(layer)

    def fork_and_send() -> int:
        child = os.fork()
        if child == 0:
            try:
                async_to_sync(layer.group_send)("readers", {"type": "from.child"})
                layer.close()
            finally:
                os._exit(0)
        return os.waitpid(child, 0)[1]

    assert await asyncio.to_thread(fork_and_send) == 0
    assert await received(layer, channel) == {"type": "from.child"}
    await layer.group_send("readers", {"type": "still.here"})
    assert await received(layer, channel) == {"type": "still.here"}
    assert len(sockets(folder)) == 1


async def test_the_folder_is_private_and_its_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40) / "run"
    layer = UnixDatagramLayer(folder)
    channel = await member(layer)
    await layer.group_send("readers", {"type": "a"})
    assert await received(layer, channel) == {"type": "a"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    layer.close()
    assert sockets(folder) == []


async def test_other_sockets_of_the_folder_are_left_alone(
    layer: UnixDatagramLayer, folder: Path
) -> None:
    office = SocketFolder(folder)
    supervisor = office.bind("supervisor-7")
    supervisor.setblocking(False)
    await layer.group_send("readers", {"type": "a"})
    with pytest.raises(BlockingIOError):
        supervisor.recv(MAX_DATAGRAM)
    supervisor.close()
    office.close()


async def test_flush_forgets_members_and_messages(layer: UnixDatagramLayer) -> None:
    channel = await member(layer)
    await layer.flush()
    await layer.group_send("readers", {"type": "a"})
    assert await hears_nothing(layer, channel)


async def test_sending_costs_about_a_tenth_of_a_millisecond(layer: UnixDatagramLayer) -> None:
    await member(layer)
    costs = []
    for _ in range(200):
        started = time.perf_counter()
        await layer.group_send("readers", {"type": "session.moved", "session": "x" * 36})
        costs.append(time.perf_counter() - started)
    assert statistics.median(costs) < 0.001  # ten times as much: the machine may be busy
