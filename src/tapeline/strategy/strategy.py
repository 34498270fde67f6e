"""A strategy in a file: signals, filters, sizes, protection, limits and costs, checked and versioned as one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_expression import RuleExpressionError
from tapeline.core.set_file import packaged_sets, read_set_file
from tapeline.core.symbol import Symbol, parse_name
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import code_digest, digest
from tapeline.strategy.decision_rules import RuleSet, load_rules
from tapeline.strategy.direction_filter import DirectionRules
from tapeline.strategy.financing import Financing
from tapeline.strategy.latency import Latency
from tapeline.strategy.portfolio_account import PortfolioSettings, SymbolTerms
from tapeline.strategy.position_sizer import (
    FixedFraction,
    Kelly,
    KellyContinuous,
    ProbabilityBet,
    VolatilityTarget,
)
from tapeline.strategy.protective_plan import ProtectivePlan
from tapeline.strategy.risk import RiskLimits
from tapeline.strategy.rule_program import PRICES
from tapeline.strategy.signal_rules import SignalRules
from tapeline.strategy.signal_sources import SCORE_PREFIX, RuleFile, SignalSource

PACKAGE: Final = "tapeline.strategy"
FOLDER: Final = "strategies"
ENGINE_MODULE: Final = "tapeline.strategy.strategy_decisions"
LARGEST_FILE: Final = 1_000_000
_PAIR: Final = re.compile(r"[A-Za-z]{3}([A-Za-z]{3})|[A-Za-z0-9]+[/-]([A-Za-z][A-Za-z0-9]{1,9})(?::.*)?")
_BAR_COLUMNS: Final = (*PRICES, "volume", "spread", "tick_count", "quote_volume", "taker_buy_volume")

Currency = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{1,9}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Notional(_Part):
    """Hold ``leverage`` times equity of each symbol."""

    method: Literal["notional"] = "notional"
    leverage: Annotated[float, Field(gt=0, le=1000)] = 1.0


class FixedUnits(_Part):
    """Hold so many units."""

    method: Literal["units"]
    units: Annotated[float, Field(gt=0, le=1e12)]


Sizing = Annotated[
    Notional | FixedUnits | FixedFraction | VolatilityTarget | Kelly | KellyContinuous | ProbabilityBet,
    Field(discriminator="method"),
]
_NEEDS_STOP: Final = (FixedFraction, Kelly)
_NEEDS_PROBABILITY: Final = (Kelly, ProbabilityBet)


class AccountTerms(_Part):
    """The account that the strategy trades on.

    Parameters
    ----------
    capital:
        Cash at the start; positions are sized by it, not by what was won since, unless the caller says otherwise.
    currency:
        Of the account; that of the symbols' prices where absent, if they are all of one.
    hedging, hedged_margin:
        As of :class:`tapeline.strategy.portfolio_account.PortfolioSettings`.
    """

    capital: Annotated[float, Field(gt=0, le=1e15)] = 100_000.0
    currency: Currency | None = None
    hedging: bool = False
    hedged_margin: Literal["larger", "both"] = "larger"


class TradingCosts(_Part):
    """What trading costs beside commission and slippage, which are terms of a symbol.

    Parameters
    ----------
    half_spread_bps:
        Half of ask less bid, in basis points of the bar's open.
    symbols:
        The same by symbol.
    latency:
        From a bar's close to the order's arrival, by the number of the bar.
    financing:
        By symbol, what holding a position costs; a symbol that is not named costs nothing to hold.
    """

    half_spread_bps: Annotated[float, Field(ge=0, le=1000)] = 0.0
    symbols: dict[str, Annotated[float, Field(ge=0, le=1000)]] = {}
    latency: Latency = Latency()
    financing: dict[str, Financing] = {}


class _Content(_Part):
    name: str
    description: Annotated[str, Field(max_length=10_000)] = ""
    signals: SignalSource
    validator: SignalRules | None = None
    direction: DirectionRules | None = None
    higher_timeframe: str | None = None
    sizing: Sizing | None = None
    volatility_window: Annotated[int, Field(ge=2, le=100_000)] = 240
    protection: ProtectivePlan | None = None
    risk: RiskLimits | None = None
    terms: SymbolTerms = SymbolTerms()
    symbols: dict[str, SymbolTerms] = Field(default_factory=dict, max_length=10_000)
    costs: TradingCosts = TradingCosts()
    account: AccountTerms = AccountTerms()

    @model_validator(mode="after")
    def _goes_together(self) -> _Content:
        by_rules, by_scores = self.signals.source == "rules", self.signals.source == "scores"
        for named in (*self.symbols, *self.costs.symbols, *self.costs.financing):
            Symbol.parse(named)
        if any(one.protect_by_distance for one in (self.terms, *self.symbols.values())):
            raise ValueError("protect_by_distance follows from [protection]; leave it out")
        if self.sizing is None and not by_rules:
            raise ValueError("[sizing] is missing: only rules have sizes of their own")
        if isinstance(self.sizing, _NEEDS_STOP) and self.protection is None and not by_rules:
            raise ValueError(f"sizing '{self.sizing.method}' needs a stop: add [protection]")
        if isinstance(self.sizing, _NEEDS_PROBABILITY) and not by_scores:
            raise ValueError(f"sizing '{self.sizing.method}' needs probabilities, which only scores have")
        if isinstance(self.sizing, Kelly) and (self.protection is None or self.protection.take is None):
            raise ValueError("sizing 'kelly' needs what is won for what is risked: add [protection.take]")
        if self.validator is not None and self.validator.require_probability and not by_scores:
            raise ValueError("[validator] require_probability would refuse every signal: set it to false")
        higher = self.direction is not None and self.direction.higher is not None
        if higher != (self.higher_timeframe is not None):
            raise ValueError("[direction.higher] and higher_timeframe stand together or not at all")
        if self.higher_timeframe is not None:
            Timeframe.parse(self.higher_timeframe)
        if self.direction is not None and self.direction.regime is not None and self.direction.regime.method == "given":
            raise ValueError("[direction.regime] method 'given' needs a regime that no file holds")
        return self


@dataclass(frozen=True)
class Strategy:
    """A strategy that was read and checked; made by :func:`load_strategy` or :func:`parse_strategy`.

    Parameters
    ----------
    content:
        The tables of the file: ``signals``, ``validator``, ``direction``, ``sizing``, ``protection``, ``risk``,
        ``terms``, ``symbols``, ``costs``, ``account``.
    rules:
        The rules that its signals name, compiled; None where they come from elsewhere.
    """

    content: _Content
    rules: RuleSet | None = None

    @property
    def name(self) -> str:
        """As in the file."""
        return self.content.name

    @cached_property
    def version(self) -> str:
        """``<name>@<digest>``: two strategies share it only if every table, every default, rules and code agree.

        Comments and the description of the file do not count.
        """
        return f"{self.name}@{digest(self.description)}"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything that the version is the hash of, as plain values."""
        plain = self.content.model_dump(mode="json", exclude={"name", "description"})
        if plain["validator"] is not None and plain["validator"]["symbols"] is not None:
            plain["validator"]["symbols"] = sorted(plain["validator"]["symbols"])
        return {
            **plain,
            "rules": None if self.rules is None else self.rules.version,
            "engine": code_digest(ENGINE_MODULE),
        }

    @property
    def needs_scores(self) -> bool:
        """Whether it reads a model's scores."""
        return self.content.signals.source == "scores" or f"{SCORE_PREFIX}." in self._read_by_rules

    @property
    def needs_features(self) -> bool:
        """Whether its rules read columns of the feature set."""
        return any("." not in name and name not in _BAR_COLUMNS for name in self._used)

    @property
    def findings(self) -> tuple[str, ...]:
        """The kinds of findings that its rules read."""
        prefixes = {name.partition(".")[0] for name in self._used if "." in name}
        return tuple(sorted(prefixes - {SCORE_PREFIX}))

    @property
    def _used(self) -> tuple[str, ...]:
        return () if self.rules is None else tuple(self.rules.used)

    @property
    def _read_by_rules(self) -> set[str]:
        return {f"{name.partition('.')[0]}." for name in self._used if "." in name}

    def settings(self, symbols: Sequence[str], *, capital: float | None = None) -> PortfolioSettings:
        """The account and the terms of some symbols.

        A symbol without terms of its own that is a pair by its name (EURUSD, BTC/USDT) is priced in its second
        currency, every other one in the currency of ``[terms]``.

        Raises
        ------
        ConfigurationError
            The account has no currency of its own, and the symbols are priced in several.

        Examples
        --------
        >>> load_strategy("moving_average_cross").settings(["USDJPY"]).currency
        'JPY'
        """
        content = self.content
        by_distance = content.protection is not None
        terms = {}
        for symbol in sorted(symbols):
            own = content.symbols.get(symbol)
            found = content.terms.model_copy(update=self._priced_in(symbol)) if own is None else own
            terms[symbol] = found.model_copy(update={"protect_by_distance": by_distance})
        priced = sorted({one.currency for one in terms.values()})
        currency = content.account.currency
        if currency is None and len(priced) > 1:
            raise ConfigurationError(
                f"prices are in {', '.join(priced)}, and the account has no currency",
                hint="set [account] currency, and give exchange rates for the others",
            )
        return PortfolioSettings(
            capital=content.account.capital if capital is None else capital,
            currency=currency or priced[0],
            terms=content.terms.model_copy(update={"protect_by_distance": by_distance}),
            symbols=terms,
            hedging=content.account.hedging,
            hedged_margin=content.account.hedged_margin,
        )

    def half_spread(self, symbol: str) -> float:
        """Half of ask less bid as a share of the price."""
        costs = self.content.costs
        return costs.symbols.get(symbol, costs.half_spread_bps) / 1e4

    def _priced_in(self, symbol: str) -> dict[str, Any]:
        pair = _PAIR.fullmatch(symbol)
        if pair is None:
            return {}
        currency = (pair[1] or pair[2]).upper()
        commission = self.content.terms.commission.model_copy(update={"currency": currency})
        return {"currency": currency, "commission": commission}


def known_strategies() -> list[str]:
    """The names of the packaged strategies.

    Examples
    --------
    >>> "moving_average_cross" in known_strategies()
    True
    """
    return packaged_sets(PACKAGE, FOLDER)


def load_strategy(source: Path | str) -> Strategy:
    """Read a strategy by the name of a packaged one or by the path of a TOML file.

    Raises
    ------
    ConfigurationError
        It is neither (the hint lists the packaged ones), is too large or no TOML; a name is unknown, a value out of its
        bounds, or two tables do not go together.

    Examples
    --------
    >>> strategy = load_strategy("moving_average_cross")
    >>> strategy.content.signals.slow, strategy.version.partition("@")[0]
    (100, 'moving_average_cross')
    """
    file = read_set_file(source, PACKAGE, "strategy", folder=FOLDER)
    try:
        if len(file.text) > LARGEST_FILE:
            raise ConfigurationError(f"a file of {len(file.text)} characters is larger than {LARGEST_FILE}")
        return parse_strategy(tomllib.loads(file.text), folder=file.folder)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"strategy {file.name} is not valid TOML: {error}") from None
    except RuleExpressionError:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(f"strategy {file.name}: {error.message}", hint=error.hint) from error


def parse_strategy(values: Mapping[str, Any], *, folder: Path | None = None) -> Strategy:
    """Check the content of a strategy file; see :func:`load_strategy`.

    Parameters
    ----------
    folder:
        Where the path of a rule file starts from; the working folder where absent.

    Examples
    --------
    >>> parse_strategy({"name": "mine", "signals": {"source": "scores"}, "sizing": {"method": "bet_size"}}).needs_scores
    True
    """
    try:
        content = _Content.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "strategy"
        raise ConfigurationError(f"'{place}': {first['msg']}", hint="see docs/backtest.md") from None
    parse_name(content.name, "strategy")
    if not isinstance(content.signals, RuleFile):
        return Strategy(content)
    named = content.signals.rules
    packaged = named in packaged_sets(PACKAGE)
    return Strategy(content, load_rules(named if packaged else (folder or Path.cwd()) / Path(named).expanduser()))
