"""How long an order is under way, and which chances it misses: random, and the same in each replay by seed."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.core.errors import ConfigurationError

CONSTANT: Final = 0
UNIFORM: Final = 1
LOGNORMAL: Final = 2
EMPIRICAL: Final = 3

DELAY_DRAW: Final = 0
MISS_DRAW: Final = 2
"""Numbers of an order's draws: a delay uses two, each chance of a fill one from ``MISS_DRAW`` on."""

_MILLISECOND: Final = 1e6
_MAXIMUM_DELAY: Final = 3.6e12


class LatencyModel(NamedTuple):
    """What kernels take, made by :meth:`Latency.compiled`; times in nanoseconds.

    Attributes
    ----------
    kind:
        ``CONSTANT``, ``UNIFORM``, ``LOGNORMAL`` or ``EMPIRICAL``.
    low, high:
        Bounds of the delay; equal for ``CONSTANT``.
    median, sigma:
        Of the lognormal: exp of the mean of the log, and its standard deviation.
    samples:
        Sorted delays, resampled by ``EMPIRICAL``.
    seed:
        Of all draws.
    """

    kind: int
    low: float
    high: float
    median: float
    sigma: float
    samples: NDArray[np.float64]
    seed: Any


@njit(cache=True, nogil=True)
def mixed(state: Any) -> Any:
    """The finalizer of SplitMix64: every bit of the result depends on every bit of ``state``, an unsigned number.

    Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, figure 16, with the constants
    of Stafford's variant 13 as in Vigna's splitmix64.c.

    Examples
    --------
    The first number of splitmix64.c seeded with 1234567.

    >>> mixed(np.uint64(1234567 + 0x9E3779B97F4A7C15))
    6457827717110365317
    """
    z = np.uint64(state)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def draw(seed: Any, order: int, number: int) -> float:
    """A number in (0, 1) that is a function of its three arguments alone: no draw changes another.

    Examples
    --------
    >>> draw(7, 1, 0) == draw(7, 1, 0), draw(7, 1, 0) == draw(7, 2, 0), draw(7, 1, 0) == draw(8, 1, 0)
    (True, False, False)
    """
    weyl = np.uint64(0x9E3779B97F4A7C15)
    state = mixed(np.uint64(seed) + weyl)
    state = mixed(state ^ mixed(np.uint64(order) * weyl + np.uint64(1)))
    state = mixed(state + np.uint64(number) * weyl)
    # The upper 52 bits and a half: neither 0 nor 1 is reached.
    return (np.float64(state >> np.uint64(12)) + 0.5) * 2.0**-52


@njit(cache=True, nogil=True)
def delay(model: LatencyModel, order: int) -> Any:
    """Nanoseconds from sending ``order`` (its number) until it is at the venue.

    Examples
    --------
    >>> model = Latency(kind="lognormal", median_ms=20, sigma=0.5, seed=7).compiled()
    >>> delay(model, 1) == delay(model, 1), 1e6 < delay(model, 1) < 1e9
    (True, True)
    """
    first = draw(model.seed, order, DELAY_DRAW)
    if model.kind == CONSTANT:
        wait = model.low
    elif model.kind == UNIFORM:
        wait = model.low + first * (model.high - model.low)
    elif model.kind == LOGNORMAL:
        second = draw(model.seed, order, DELAY_DRAW + 1)
        normal = math.sqrt(-2.0 * math.log(first)) * math.cos(2.0 * math.pi * second)
        wait = min(max(model.median * math.exp(model.sigma * normal), model.low), model.high)
    else:
        wait = model.samples[min(int(first * model.samples.size), model.samples.size - 1)]
    return np.int64(math.floor(wait + 0.5))


@njit(cache=True, nogil=True)
def first_at(times: Any, arrival: Any, start: int = 0) -> Any:
    """The first of the increasing ``times`` at or after ``arrival``, from row ``start`` on; their count where none is.

    For bars the times are opens: an order that arrives within a bar is live from the next one's open.

    Examples
    --------
    >>> opens = np.array([0, 60, 120])
    >>> [int(first_at(opens, arrival)) for arrival in (0, 1, 60, 121)]
    [0, 1, 1, 3]
    """
    low, high = start, times.size
    while low < high:
        middle = (low + high) // 2
        if times[middle] < arrival:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def missed(seed: Any, order: int, chance: int, probability: float) -> bool:
    """Whether an order misses its ``chance``-th chance of a fill (counted from 0), by seed.

    Examples
    --------
    >>> missed(7, 1, 0, 0.0), missed(7, 1, 0, 1.0)
    (False, True)
    """
    return draw(seed, order, MISS_DRAW + chance) < probability


class Latency(BaseModel):
    """A distribution of delays in milliseconds, and the seed by which they are replayed.

    Parameters
    ----------
    kind:
        ``constant`` (median_ms), ``uniform`` (low_ms to high_ms), ``lognormal`` (median_ms and sigma, cut to low_ms and
        high_ms where given), ``empirical`` (samples_ms, each as likely).
    sigma:
        Standard deviation of the logarithm.
    seed:
        Delays, missed fills: all draws depend on it and on an order's number, on nothing else.

    Examples
    --------
    >>> Latency(kind="uniform", low_ms=5, high_ms=10, seed=1).delays([1, 2, 3]).max() <= pd.Timedelta("10ms")
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["constant", "uniform", "lognormal", "empirical"] = "constant"
    median_ms: float = Field(0.0, ge=0, le=3_600_000)
    sigma: float = Field(0.0, ge=0, le=5)
    low_ms: float = Field(0.0, ge=0, le=3_600_000)
    high_ms: float | None = Field(None, ge=0, le=3_600_000)
    samples_ms: tuple[float, ...] = Field((), max_length=1_000_000)
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _complete(self) -> Latency:
        if self.kind == "uniform" and self.high_ms is None:
            raise ValueError("uniform needs high_ms")
        if self.high_ms is not None and self.high_ms < self.low_ms:
            raise ValueError(f"high_ms {self.high_ms:g} is below low_ms {self.low_ms:g}")
        if self.kind == "lognormal" and not self.median_ms > 0:
            raise ValueError("lognormal needs a positive median_ms")
        if (self.kind == "empirical") != bool(self.samples_ms):
            raise ValueError("samples_ms belong to empirical, which needs them")
        wrong = [sample for sample in self.samples_ms if not 0 <= sample <= 3_600_000]
        if wrong:
            raise ValueError(f"a sample is {wrong[0]:g} ms, it must be from 0 to an hour")
        return self

    def compiled(self) -> LatencyModel:
        """What kernels take."""
        kinds = {"constant": CONSTANT, "uniform": UNIFORM, "lognormal": LOGNORMAL, "empirical": EMPIRICAL}
        constant = self.kind == "constant"
        high = _MAXIMUM_DELAY if self.high_ms is None else self.high_ms * _MILLISECOND
        return LatencyModel(
            kind=kinds[self.kind],
            low=(self.median_ms if constant else self.low_ms) * _MILLISECOND,
            high=self.median_ms * _MILLISECOND if constant else high,
            median=self.median_ms * _MILLISECOND,
            sigma=self.sigma,
            samples=np.sort(np.array(self.samples_ms, np.float64)) * _MILLISECOND,
            seed=np.uint64(self.seed),
        )

    def delays(self, orders: Any) -> pd.TimedeltaIndex:
        """The delay of each order, by its number."""
        numbers = np.ascontiguousarray(orders, dtype=np.int64)
        return pd.to_timedelta(_delays(self.compiled(), numbers), unit="ns")

    def live_rows(self, times: pd.DatetimeIndex, sent: pd.DatetimeIndex, orders: Any) -> NDArray[np.int64]:
        """For each order the row of the first of ``times`` at or after its arrival; their count where none is.

        Parameters
        ----------
        times:
            Opens of bars, or times of ticks; increasing.
        sent:
            When each order was sent: for a signal the close of its bar.
        orders:
            Their numbers.

        Examples
        --------
        >>> opens = pd.date_range("2024-01-01", periods=4, freq="1min", tz="UTC")
        >>> [Latency(median_ms=wait).live_rows(opens, opens[[1]], [1]).tolist() for wait in (0, 1, 60_000, 1e6)]
        [[1], [2], [2], [4]]
        """
        arrival = (sent.as_unit("ns") + self.delays(orders)).asi8
        return np.searchsorted(times.as_unit("ns").asi8, arrival, side="left").astype(np.int64)


@njit(cache=True, nogil=True)
def _delays(model: LatencyModel, orders: Any) -> Any:
    found = np.empty(orders.size, np.int64)
    for row in range(orders.size):
        found[row] = delay(model, orders[row])
    return found


def parse_latency(values: dict[str, Any]) -> Latency:
    """Read a distribution from a file's table.

    Raises
    ------
    ConfigurationError
        A name is unknown, a value out of its bounds, or the distribution is incomplete.
    """
    try:
        return Latency.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"latency '{place}': {first['msg']}", hint="see docs/costs.md") from None


def order_number(name: str) -> int:
    """The number of an order that has a name: 63 bits of its BLAKE2b digest.

    Examples
    --------
    >>> order_number("entry-1") == order_number("entry-1"), order_number("entry-1") == order_number("entry-2")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
