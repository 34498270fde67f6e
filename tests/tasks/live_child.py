"""A live run in a process of its own, to be killed.

python -m tests.tasks.live_child ROOT STREAM_URL REST_URL ACKNOWLEDGED

After each group that is durable it appends the id of the last trade to the file ACKNOWLEDGED.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tapeline.core.settings import Settings
from tapeline.quality.feed_sink import FeedSink
from tasks.live_run import LiveRun, run_live
from tests.tasks.live_support import fast_run


def main() -> None:
    root, stream, rest, acknowledged = sys.argv[1:]
    out = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    append = FeedSink.append

    def told(sink: FeedSink, records) -> None:
        append(sink, records)
        os.write(out, f"{sink.last_ids.get('BTCUSDT', -1)}\n".encode())

    FeedSink.append = told
    rules = {"binance_stream": stream, "binance_rest": rest, "drain_seconds": 0.1}
    live: LiveRun = fast_run(["BTCUSDT"], Settings(root=Path(root), stream=rules), depth_levels=2, stale=None)
    run_live(live)


if __name__ == "__main__":
    main()
