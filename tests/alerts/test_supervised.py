"""A program beside the engine: begun again where it ends, ended with the engine however that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tapeline.alerts.supervised import keep_running

NOTE = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')"
STAY = NOTE + "; import time; time.sleep(600)"
PARENT = """
import asyncio, sys
from tapeline.alerts.supervised import keep_running
asyncio.run(keep_running(sys.argv[1:]))
"""


def noted(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_ends_is_begun_again_and_what_is_cancelled_ends(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    async def story() -> None:
        running = asyncio.create_task(keep_running([sys.executable, "-S", "-c", NOTE, str(notes)], pause=0.01))
        async with asyncio.timeout(30):
            while len(noted(notes)) < 3:
                await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            notes.unlink()
            running = asyncio.create_task(keep_running([sys.executable, "-S", "-c", STAY, str(notes)]))
            while not noted(notes):
                await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert not is_alive(noted(notes)[0])

    asyncio.run(story())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
def test_it_does_not_outlive_an_engine_that_was_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    child = [sys.executable, "-S", "-c", STAY, str(notes)]
    with subprocess.Popen([sys.executable, "-c", PARENT, *child], stderr=subprocess.DEVNULL) as parent:
        until = time.monotonic() + 30
        while not noted(notes) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(parent.pid, signal.SIGKILL)
    (pid,) = noted(notes)
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(pid)
