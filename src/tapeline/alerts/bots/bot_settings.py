"""How one bot is spoken to: its dialect, its names for symbols, and how long it may take to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tapeline.alerts.rule import Name, SymbolName
from tapeline.alerts.signal_intent import PositionSide
from tapeline.core.errors import ConfigurationError
from tapeline.core.nanoseconds import SECOND

Dialect = Literal["generic", "pull", "freqtrade", "hummingbot", "threecommas"]
Pair = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}$")]
MOST_SYMBOLS: Final = 1_000


class BotSettings(BaseModel):
    """What an endpoint of the channel ``bot`` keeps in its settings; secrets are kept sealed beside it.

    Parameters
    ----------
    name:
        The channel's name, as rules use it.
    dialect:
        ``generic``: signed JSON is posted; ``pull``: the bot asks for its signals; or a program's own interface.
    ttl:
        Seconds after its event that a signal is worth anything.
    acknowledge_within:
        Seconds after which a signal that nobody acknowledged is told to the owner; 0: never.
    notify:
        Channels through which he is told.
    symbols:
        The bot's names by ours; with any, other symbols are refused.
    quantity:
        Units of a signal to open that says no quantity.
    leverage:
        freqtrade, hummingbot: of a position that is opened.
    account, connector:
        hummingbot: whose keys, and at which exchange (``binance_perpetual``).
    bot_id:
        3Commas: the number of a DCA bot, or the UUID of a signal bot.
    exchange:
        3Commas signal bots: TradingView's name of the exchange (``BINANCE``).
    side:
        3Commas: the direction of a DCA bot, or of what a signal bot closes.

    Examples
    --------
    >>> BotSettings(name="desk", dialect="freqtrade", symbols={"BTCUSDT": "BTC/USDT"}).pair("BTCUSDT")
    'BTC/USDT'
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    dialect: Dialect = "generic"
    ttl: Annotated[float, Field(ge=0.1, le=3_600)] = 5.0
    acknowledge_within: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    notify: Annotated[tuple[Name, ...], Field(max_length=20)] = ()
    symbols: Annotated[dict[SymbolName, Pair], Field(max_length=MOST_SYMBOLS)] = {}
    quantity: Annotated[float, Field(gt=0, le=1e15)] | None = None
    leverage: Annotated[int, Field(ge=1, le=125)] | None = None
    account: Word | None = None
    connector: Word | None = None
    bot_id: Word | None = None
    exchange: Word | None = None
    side: PositionSide | None = None

    @field_validator("notify", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _complete(self) -> BotSettings:
        if self.dialect == "hummingbot" and self.connector is None:
            raise ValueError("a hummingbot needs its connector, such as binance_perpetual")
        if self.dialect == "threecommas" and self.bot_id is None:
            raise ValueError("a 3Commas bot needs its bot_id")
        if self.dialect in ("freqtrade", "hummingbot", "threecommas") and not self.symbols:
            raise ValueError(f"a {self.dialect} bot needs symbols: its own names by ours, BTCUSDT to BTC/USDT")
        return self

    @property
    def lifetime(self) -> int:
        """``ttl`` in nanoseconds."""
        return int(self.ttl * SECOND)

    def pair(self, symbol: str) -> str | None:
        """The bot's name of a symbol; None where it does not trade it."""
        if not self.symbols:
            return symbol
        return self.symbols.get(symbol)


def read_settings(settings: Mapping[str, Any]) -> BotSettings:
    """The settings of a bot's endpoint.

    Raises
    ------
    ConfigurationError
        They are not those of a bot; the message names the field, no value.
    """
    try:
        return BotSettings.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigurationError(f"the settings of a bot are wrong: {where}: {first['msg']}") from None
