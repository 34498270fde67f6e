"""What a rule would have done, asked in a process of its own: it may be long, and is ended where it is too long.

A backtest holds Python's lock for most of its time; in the API's process it would hold every other request up, and
could not be stopped.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from tapeline.core.errors import TapelineError, ThrottledError

if TYPE_CHECKING:
    import pandas as pd

    from tapeline.alerts.rule import Rule

SECONDS: Final = 20.0
WAIT_SECONDS: Final = 2.0
MOST_SHOWN: Final = 200


class TookTooLongError(TapelineError):
    """It was ended before it had an answer."""


class PreviewWorker:
    """One process that answers one question at a time.

    Parameters
    ----------
    work:
        What it runs: a function of a module.
    seconds:
        After which a question is given up and the process ended; the next question begins a new one.
    wait_seconds:
        How long a question waits for the one before it.

    Examples
    --------
    >>> worker = PreviewWorker(sorted)
    >>> worker.ask([3, 1, 2])
    [1, 2, 3]
    >>> worker.close()
    """

    def __init__(
        self, work: Callable[..., Any], *, seconds: float = SECONDS, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._work, self._seconds, self._wait = work, seconds, wait_seconds
        self._turn = threading.Lock()
        self._process: Any = None
        self._end: Connection | None = None

    def ask(self, *arguments: Any) -> Any:
        """The answer of the function.

        Raises
        ------
        ThrottledError
            Another question is being answered.
        TookTooLongError
            It took longer than ``seconds``, or the process died of it.
        """
        if not self._turn.acquire(timeout=self._wait):
            raise ThrottledError("another preview is being made", retry_after=self._wait)
        try:
            answer = self._asked(arguments)
        except (EOFError, OSError):
            self._stop()
            raise TookTooLongError("the preview was ended", hint="ask for fewer bars or symbols") from None
        except BaseException:
            self._stop()
            raise
        finally:
            self._turn.release()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the process; a question that is under way is given up."""
        self._stop()

    def _asked(self, arguments: tuple[Any, ...]) -> Any:
        end = self._end
        if end is None or not self._process.is_alive():
            end = self._start()
        end.send(arguments)
        if not end.poll(self._seconds):
            raise TookTooLongError(
                f"the preview took longer than {self._seconds:g} s", hint="ask for fewer bars or symbols"
            )
        return end.recv()

    def _start(self) -> Connection:
        # Not by fork: this process has threads, and locks that would be held for ever in the copy.
        spawning = multiprocessing.get_context("spawn")
        end, other = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(other, self._work), daemon=True, name="preview")
        self._process.start()
        other.close()
        self._end = end
        return end

    def _stop(self) -> None:
        process, end, self._process, self._end = self._process, self._end, None, None
        if process is not None:
            process.kill()
            process.join()
        if end is not None:
            end.close()


def _serve(end: Connection, work: Callable[..., Any]) -> None:
    while True:
        try:
            arguments = end.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = work(*arguments)
        except TapelineError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - the API tells it as a failure, and this process goes on
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        end.send(answer)


def previewed(rule: Rule, bars: Mapping[str, pd.DataFrame], path: str) -> dict[str, Any]:
    """What a rule would have done on bars: how often, the last firings, and what followed on them.

    Returns
    -------
    dict
        ``firings`` (how many), ``days``, ``per_day``, ``last`` (the newest ``MOST_SHOWN``), ``forward``: by the number
        of bars the median return after a firing, None where it is not known.
    """
    import pandas as pd

    from tapeline.alerts.backtest import FORWARD, backtest_rule

    outcome = backtest_rule(rule, bars, path="close" if path == "close" else "ohlc")
    frame = outcome.firings
    shown = frame.tail(MOST_SHOWN)
    return {
        "firings": len(frame),
        "days": outcome.days,
        "per_day": len(frame) / outcome.days if outcome.days else 0.0,
        "last": [
            {"ts": int(ts), "symbol": symbol, "kind": kind, "price": _number(price), "at_close": bool(at_close), **said}
            for ts, symbol, kind, price, at_close, said in zip(
                pd.DatetimeIndex(shown["ts"]).as_unit("ns").asi8,
                shown["symbol"],
                shown["kind"],
                shown["price"],
                shown["at_close"],
                ({"conditions": one} for one in shown["explanation"]),
                strict=True,
            )
        ],
        "forward": {ahead: _number(frame[f"return_{ahead}"].median()) for ahead in FORWARD},
    }


def _number(value: float) -> float | None:
    return float(value) if value - value == 0 else None
