"""What the server that test processes are forked from has ready: every import, and the kernel."""

from __future__ import annotations

import numpy as np

from tapeline.alerts.engine.evaluator import Evaluator
from tests.alerts.scale import support

_evaluator = Evaluator([support.SYMBOLS[0]])
_evaluator.process(_evaluator.trades(support.SYMBOLS[0], np.array([1]), np.array([1.0]), np.array([1.0])))
