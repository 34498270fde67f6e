"""One engine a folder, and who waits has it as soon as the holder is dead."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tapeline.alerts.folder_lock import FolderLock
from tapeline.alerts.service import AlertEngine
from tapeline.alerts.store.opening import open_store
from tapeline.core.errors import ConfigurationError

HOLD = """
import sys, time
from pathlib import Path
from tapeline.alerts.folder_lock import FolderLock
FolderLock(Path(sys.argv[1])).take_or_fail()
print("held", flush=True)
time.sleep(600)
"""


def test_who_waits_has_the_lock_when_its_holder_is_killed(tmp_path: Path) -> None:
    async def story() -> float:
        waiting = asyncio.create_task(lock.wait())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        holder.kill()
        killed = time.monotonic()
        async with asyncio.timeout(20):
            await waiting
        return time.monotonic() - killed

    lock = FolderLock(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert not lock.take()
            assert lock.holder() == holder.pid
            assert asyncio.run(story()) < 5.0
            assert lock.held
        finally:
            holder.kill()
    lock.give_back()


def test_two_engines_never_use_one_folder(tmp_path: Path) -> None:
    async def story() -> None:
        store = open_store(tmp_path / "alerts.db")
        first, second, third = (AlertEngine(store, tmp_path / "engine", {}) for _ in range(3))
        await first.start()
        with pytest.raises(ConfigurationError, match=r"uses .*engine already.*--standby"):
            await second.start()
        await first.stop()
        await third.start()
        await third.stop()
        store.close()

    asyncio.run(story())


def test_an_engine_that_cannot_begin_gives_the_folder_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "alerts.db")
    bad = tmp_path / "rules.yaml"
    bad.write_text("id: [")
    engine = AlertEngine(store, tmp_path / "engine", {}, rules=bad)
    with pytest.raises(ConfigurationError):
        asyncio.run(engine.start())
    assert FolderLock(tmp_path / "engine").take()
    store.close()
