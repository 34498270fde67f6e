"""What empyrical-reloaded says of a few series of returns: run in an environment of its own, never by the tests.

It is no dependency of this project, so its answers are kept in ``empyrical_answers.json``. To make them anew:

    python -m venv peer && peer/bin/pip install empyrical-reloaded==0.7.1
    python -c "from tests.evaluation.test_return_statistics import index_returns; index_returns().to_csv('real.csv')"
    peer/bin/python tests/evaluation/empyrical_answers.py real.csv > tests/evaluation/empyrical_answers.json
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd


def seeded_returns() -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Made-up returns, those of a benchmark, and the periods of a year: heavy tails, idle periods, few periods."""
    draw = np.random.default_rng(20_240_101)
    market = draw.standard_t(4, 1_000) * 0.007
    idle = np.where(draw.random(1_000) < 0.6, 0.0, 0.4 * market + draw.normal(2e-4, 0.004, 1_000))
    hours = draw.standard_t(3, 5_000) * 0.001
    few = draw.normal(0.01, 0.03, 24)
    return {
        "daily, idle": (idle, market, 252.0),
        "hourly": (hours, draw.normal(0, 0.002, 5_000), 8_760.0),
        "monthly": (few, draw.normal(0.005, 0.04, 24), 12.0),
    }


def answers(returns: np.ndarray, benchmark: np.ndarray, year: float) -> dict[str, float]:
    """Each figure by its name there, for a year of so many periods."""
    import empyrical as ep
    from scipy import stats

    def annual(values: np.ndarray) -> float:
        return ep.annual_return(values, annualization=year)

    def captured(chosen: np.ndarray) -> float:
        return float(annual(returns[chosen]) / annual(benchmark[chosen]))

    alpha, beta = ep.alpha_beta_aligned(returns, benchmark, risk_free=1e-5, annualization=year)
    found = {
        "total_return": ep.cum_returns_final(returns),
        "annual_return": annual(returns),
        "annual_volatility": ep.annual_volatility(returns, annualization=year),
        "sharpe": ep.sharpe_ratio(returns, risk_free=1e-5, annualization=year),
        "sortino": ep.sortino_ratio(returns, required_return=2e-5, annualization=year),
        "calmar": ep.calmar_ratio(returns, annualization=year),
        "omega": ep.omega_ratio(returns, required_return=2e-5, annualization=1),
        "maximum_drawdown": -ep.max_drawdown(returns),
        "stability": ep.stability_of_timeseries(returns),
        "tail_ratio": ep.tail_ratio(returns),
        "skewness": stats.skew(returns),
        "kurtosis": stats.kurtosis(returns),
        "value_at_risk": ep.value_at_risk(returns),
        "conditional_value_at_risk": ep.conditional_value_at_risk(returns),
        "alpha": alpha,
        "beta": beta,
        # Its capture() knows no number of periods, only names: here its annual returns, on its choice of periods.
        "capture": captured(np.ones(returns.size, dtype=bool)),
        "up_capture": captured(benchmark > 0),
        "down_capture": captured(benchmark < 0),
        "information_ratio": ep.excess_sharpe(returns, benchmark) * np.sqrt(year),
    }
    return {name: float(value) for name, value in found.items()}


if __name__ == "__main__":
    import empyrical

    real = pd.read_csv(sys.argv[1], index_col=0)
    cases = {**seeded_returns(), "indices": (real["NASDAQ"].to_numpy(), real["SP500"].to_numpy(), 252.0)}
    # The real ones at 252 periods also by its own capture(), which has that number built in.
    own = {
        "capture": empyrical.capture(real["NASDAQ"], real["SP500"]),
        "up_capture": empyrical.up_capture(real["NASDAQ"], real["SP500"]),
        "down_capture": empyrical.down_capture(real["NASDAQ"], real["SP500"]),
    }
    table = {name: answers(*case) for name, case in cases.items()}
    table["indices"].update({name: float(value) for name, value in own.items()})
    json.dump({"version": empyrical.__version__, "answers": table}, sys.stdout, indent=1)
    sys.stdout.write("\n")
