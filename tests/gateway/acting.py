"""What a process does that is asked to, in tests of the one that makes previews."""

from __future__ import annotations

import os
import time


def act(what: str) -> str:
    if what == "die":
        os._exit(1)
    if what == "stay":
        time.sleep(3_600)
    if what == "fail":
        raise KeyError("inside")
    return what
