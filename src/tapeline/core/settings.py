"""Settings: defaults, then one TOML file, then the environment; parsed and checked once, at the edge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from tapeline.core.errors import ConfigurationError

SETTINGS_FILE_VARIABLE: Final = "TAPELINE_SETTINGS"
DEFAULT_SETTINGS_FILE: Final = "tapeline.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NotificationRoute(_Section):
    """Which notifications a channel takes; a channel that no route names takes all of them."""

    channel: str = Field(
        min_length=1, description="a channel's name or a pattern of it, such as telegram-* or mailto-*"
    )
    minimum_severity: Literal["info", "warning", "error", "critical"] = "info"
    error_types: tuple[str, ...] = Field((), description="classes of errors or patterns of them; all where absent")


class NotificationSettings(_Section):
    """Where alerts go. ``urls`` are apprise addresses (``tgram://token/chat``, ``slack://...``, ``json://...``)."""

    urls: tuple[SecretStr, ...] = ()
    prefect_blocks: tuple[str, ...] = Field((), description="names of Prefect notification blocks, 'type/name'")
    deduplicate_seconds: float = Field(900.0, ge=0, description="the same alert is not repeated within this time")
    maximum_per_hour: int = Field(30, ge=1, description="above this the rest is counted and sent as one digest")
    timeout_seconds: float = Field(10.0, gt=0, le=120)
    routes: tuple[NotificationRoute, ...] = Field((), description="who takes what; all channels take all where absent")


class MetaTraderSettings(_Section):
    """How to reach a MetaTrader 5 terminal."""

    path: str | None = None
    login: int | None = None
    password: SecretStr | None = None
    server: str | None = None
    utc_offset_hours: float | None = Field(None, ge=-12, le=14, description="the broker clock's offset, if it is fixed")
    trading: bool = Field(False, description="whether orders may be sent; checking them is always allowed")
    bridge: str | None = Field(None, description="'host:port' of a bridge to the terminal, on the loopback interface")
    bridge_token: SecretStr | None = Field(None, description="the secret that the bridge was started with")


class ExchangeSettings(_Section):
    """Credentials of one exchange or broker; which of them it wants, ``tapeline exchanges`` says.

    They are secrets: their repr and their dump are asterisks.
    """

    key: SecretStr | None = Field(None, description="the API key")
    secret: SecretStr | None = Field(None, description="what requests are signed with")
    password: SecretStr | None = Field(None, description="the passphrase that OKX, KuCoin and Coinbase Exchange add")
    token: SecretStr | None = Field(None, description="a bearer token, as OANDA's")
    account: SecretStr | None = Field(None, description="the account, where requests name one, as OANDA's do")
    sandbox: bool = Field(False, description="use the venue's test or practice environment")

    def secrets(self) -> tuple[str, ...]:
        """The texts that must appear in no message, log or name."""
        held = (self.key, self.secret, self.password, self.token, self.account)
        return tuple(text for each in held if each is not None and (text := each.get_secret_value()))


class NetworkSettings(_Section):
    """Time-outs and tries of the network sources."""

    timeout_seconds: float = Field(20.0, gt=0, le=300)
    maximum_tries: int = Field(5, ge=1, le=20)
    backoff_seconds: float = Field(1.0, ge=0, le=60)


class StreamSettings(_Section):
    """Live feeds: where the venue is reached, and how often what was collected is moved to the lake."""

    binance_stream: str = Field("wss://stream.binance.com:9443/stream", description="address of combined streams")
    binance_rest: str = Field("https://api.binance.com", description="address of trade history and book snapshots")
    drain_seconds: float = Field(30.0, ge=0.01, le=3600, description="the journal is written to the lake so often")
    report_seconds: float = Field(15.0, ge=0.05, le=3600, description="a run's table is renewed so often")
    poll_seconds: float = Field(0.25, ge=0.01, le=60, description="a MetaTrader terminal is asked for ticks so often")
    stale_seconds: float = Field(60.0, ge=0.1, le=86_400, description="a connection without data for so long is ended")
    maximum_attempts: int = Field(20, ge=1, le=100_000, description="failures in a row after which a feed gives up")


class TrainingSettings(_Section):
    """Bounds of a training run."""

    folds: int = Field(5, ge=3, le=20)
    embargo: float = Field(0.01, ge=0, le=0.2, description="share of the rows after each test block that is left out")
    trials: int = Field(8, ge=1, le=1000)
    family: str = Field(
        "lightgbm",
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        description="the family of models, or auto: chosen by the data's traits and what past runs found",
    )
    search: Literal["tpe", "grid"] = Field("tpe", description="how parameters are drawn; grid tries every point")
    processes: int = Field(1, ge=1, le=64, description="how many processes share a search; each fit uses its threads")
    storage: SecretStr | None = Field(
        None, description="the URL of a database for the search's trials; a journal file in data/_state where absent"
    )
    strict_bins: bool = Field(
        False, description="bin each fold's training rows anew instead of all development rows once; slower"
    )
    seed: int = 7
    threads: int = Field(2, ge=1, le=64, description="of one fit")
    scaling: Literal["none", "standard", "robust", "min_max", "quantile", "rank_gauss"] = Field(
        "none", description="what is done to features before the trees read them, fitted on training rows only"
    )
    holdout: float = Field(0.2, ge=0.05, le=0.5, description="the last share of time, looked at once, after tuning")


class CardSettings(_Section):
    """What the model card of a training holds; see docs/evaluation.md."""

    write: bool = Field(True, description="whether each training writes a card")
    regimes: tuple[str, ...] = Field(
        (), description="feature columns whose values are regimes to judge the model by; by their names where absent"
    )
    refits: bool = Field(True, description="whether the model is fitted anew along many histories: about 25 more fits")
    blocks: int = Field(6, ge=3, le=20, description="blocks of time that those histories are cut into")
    test_blocks: int = Field(2, ge=1, le=5, description="blocks tested at once by combinatorial cross-validation")


class ChartSettings(_Section):
    """What is looked for in the clean bars of every run; see docs/charts.md."""

    detectors: dict[str, dict[str, Any]] = Field(
        {}, description="detectors by name with the parameters that are not their defaults; all of them where empty"
    )
    horizon: int = Field(200, ge=1, le=10_000, description="bars within which a finding's target or stop is awaited")


class ScoringSettings(_Section):
    """Live scoring and its alerts."""

    confidence_threshold: float = Field(0.65, ge=0.5, le=1.0)


class LifecycleSettings(_Section):
    """When a model in use is trained again, and when its challenger takes its place; see docs/lifecycle.md."""

    maximum_age_days: float = Field(30.0, gt=0, le=3660, description="a training older than this is a reason for one")
    minimum_days: float = Field(7.0, ge=0, le=3660, description="so many days lie between two trainings at least")
    minimum_new_rows: int = Field(200, ge=1, description="labels that must have become known since the last training")
    confirmations: int = Field(2, ge=1, le=100, description="checks in a row that must find an alarm")
    window: int = Field(500, ge=100, le=100_000, description="newest scored rows that are held against the training's")
    automatic: bool = Field(True, description="train where there is reason to; else only say so")
    promote_live: bool = Field(True, description="promote a challenger that has shown itself better on live rows")
    live_rows: int = Field(250, ge=100, description="rows that both scored live before the challenger may be promoted")
    live_share: float = Field(
        0.99, ge=0.9, lt=1, description="of resamples in which its loss must be less; high, for it is looked at daily"
    )

    @model_validator(mode="after")
    def _ordered(self) -> LifecycleSettings:
        if self.minimum_days > self.maximum_age_days:
            raise ValueError(f"minimum_days {self.minimum_days:g} is above maximum_age_days {self.maximum_age_days:g}")
        return self


class CalendarSettings(_Section):
    """Which market calendar an instrument has: by symbol, else by source, else the default; see docs/validation.md."""

    default: str = Field("24x7", description="where nothing says otherwise; EURUSD and the like are 24x5")
    symbols: dict[str, str] = Field({}, description="calendars by symbol or pattern, such as XAU*")
    sources: dict[str, str] = Field({}, description="calendars by source or pattern, such as ccxt:*")


class QualitySettings(_Section):
    """What is looked for in bars beyond what every run checks; see docs/validation.md."""

    anomalies: tuple[str, ...] = Field(
        (),
        description="methods that look for unusual bars in the clean stage, such as spike_and_return; none by default",
    )


class ClockSettings(_Section):
    """Which clocks the clock check asks, and when it tells; see docs/clock.md."""

    references: dict[str, str] = Field(
        {"ntp": "ntp://pool.ntp.org", "binance": "exchange:binance"},
        description="by name: ntp://host[:port], http(s)://... (its Date header), exchange:<name>[@<address>], "
        "mt5:<symbol> (the newest tick of the terminal)",
    )
    threshold_seconds: float = Field(1.0, gt=0, le=3600, description="an offset surely beyond this is told")
    samples: int = Field(8, ge=1, le=64, description="round trips to each reference in a check")
    timeout_seconds: float = Field(3.0, gt=0, le=60)
    history_days: float = Field(7.0, gt=0, le=366, description="how much of the past the picture shows")


class CleaningSettings(_Section):
    """What cleaning may do beyond what has one right answer; see docs/cleaning.md."""

    missing: Literal["none", "forward"] = Field("none", description="what becomes of bars that were due and are absent")
    missing_limit: int = Field(5, ge=1, le=100_000, description="how many absent bars in a row may be filled")
    duplicates: Literal["first", "last", "best_source", "aggregate"] = "first"
    sources: tuple[str, ...] = Field((), description="the order of trust for best_source, best first")
    outliers: Literal["none", "hampel", "isolation_forest", "both"] = "hampel"


class CostSettings(_Section):
    """What a round turn costs in the equity picture of a report."""

    fee_bps: float = Field(0.5, ge=0, le=1000)
    half_spread_bps: float = Field(0.5, ge=0, le=1000)


class WorkerSettings(_Section):
    """Where the tasks of a flow run."""

    dask: str | None = Field(
        None, pattern=r"^(tcp|tls)://[^\s/]+:\d+$", description="a Dask scheduler; threads of the flow where absent"
    )


class AlertChannelSettings(_Section):
    """One way to tell an owner of firings, by the name that rules use."""

    kind: Literal["webhook", "telegram", "slack", "discord", "email", "sms", "bot"]
    owner: str = Field("me", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$", description="whose rules may use it")
    address: SecretStr = Field(description="the URL of a webhook or a bot, an apprise address of a chat, a recipient")
    gateway: SecretStr | None = Field(None, description="email and sms: an apprise address with {to}")
    secret: SecretStr | None = Field(None, description="webhook: what requests are signed with, whsec_...")
    lifetime_seconds: float = Field(0.0, ge=0, description="a delivery is worthless after so long; 0: never")
    bot: dict[str, Any] = Field({}, description="bot: dialect, ttl, symbols and the rest; see docs/bots.md")
    credentials: dict[str, SecretStr] = Field({}, description="bot: username and password, or a token, by its dialect")


class AlertNewsSettings(_Section):
    """Where headlines for sentiment rules come from: NewsAPI and X, asked where there is a key or a token."""

    key: SecretStr | None = Field(None, description="NewsAPI's")
    x_token: SecretStr | None = Field(None, description="the bearer token of X")
    x_questions: tuple[str, ...] = Field((), description="what X is searched for; the questions where absent")
    x_calls_per_day: int = Field(100, ge=1, description="the quota of the token")
    questions: tuple[str, ...] = Field((), description="what is searched for, such as bitcoin")
    names: dict[str, tuple[str, ...]] = Field({}, description="by symbol, the words that name it in a headline")
    lexicon: Path | None = Field(
        None, description="a JSON file: words and their weights, -1 to 1; relative to the root"
    )
    calls_per_day: int = Field(100, ge=1, description="the quota of the key")
    every_seconds: float = Field(900.0, gt=0, description="between two calls for one question, at least")


class AlertPolledSettings(_Section):
    """A source that is asked for bars and stands by for the symbols that it has a name for."""

    symbols: dict[str, str] = Field({}, description="by symbol here what the source calls it")
    calls_per_minute: int = Field(5, ge=1, description="its quota")
    calls_per_day: int = Field(25, ge=1, description="its quota")
    every_seconds: float = Field(60.0, gt=0, description="between two calls for one symbol, at least")


class AlertVantageSettings(AlertPolledSettings):
    """Alpha Vantage, asked where there is a key; the quotas are those of a free one."""

    key: SecretStr | None = None


class AlertYahooSettings(AlertPolledSettings):
    """Yahoo Finance, asked for the symbols that are named here or, where it is enabled, in the universe."""

    enabled: bool = False
    calls_per_minute: int = Field(60, ge=1, description="Yahoo publishes none: on the careful side")
    calls_per_day: int = Field(40_000, ge=1, description="Yahoo publishes none: on the careful side")


class AlertGatewaySettings(_Section):
    """The alert system's API, page and WebSocket server; see docs/gateway.md."""

    host: str = Field("127.0.0.1", description="where the API and the page answer")
    port: int = Field(8791, ge=0, le=65_535, description="0 takes a free one")
    signing_keys: tuple[SecretStr, ...] = Field((), description="what tokens are signed with, newest first")
    access_seconds: float = Field(900.0, gt=0, le=86_400, description="how long an access token is valid")
    refresh_seconds: float = Field(1_209_600.0, gt=0, description="how long a refresh token is valid")
    trusted_proxies: tuple[str, ...] = Field((), description="networks whose X-Forwarded-For is believed")
    origins: tuple[str, ...] = Field((), description="other origins whose pages may use API and WebSocket")
    stream_port: int | None = Field(
        None, ge=0, le=65_535, description="where the API streams firings itself; the engine does where absent"
    )
    stream_url: str | None = Field(
        None, pattern=r"^wss?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?$", description="where pages find the stream"
    )
    requests_per_minute: int = Field(600, ge=1, description="of one user or, without a user, one address")
    inbound_tokens: dict[str, Annotated[SecretStr, Field(min_length=43)]] = Field(
        {}, description="what stands in the address of TradingView's alerts, by owner: 256 random bits each"
    )
    inbound_networks: tuple[str, ...] = Field((), description="networks that inbound alerts may come from; empty: any")


class AlertScaleSettings(_Section):
    """Several alert engines over one PostgreSQL and one Redis; see docs/alert_scale.md."""

    redis: SecretStr | None = Field(None, description="redis://... of queue and cache; one engine alone where absent")
    instance: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="this engine's name")
    shards: int = Field(16, ge=1, le=1024, description="into how many parts symbols are divided; fixed once used")
    lease_seconds: float = Field(4.0, ge=0.5, le=60, description="after which a silent engine's shards are taken over")


class AlertSettings(_Section):
    """The alert engine; see docs/alerts.md."""

    store: SecretStr | None = Field(None, description="path or URL of the database; a SQLite file where absent")
    folder: Path | None = Field(None, description="the engine's journal and snapshots; in the state folder if absent")
    rules: Path = Field(Path("rules"), description="file or folder with rules; relative to the root")
    symbols: tuple[str, ...] = Field((), description="further symbols to follow, beside those that rules name")
    channels: dict[str, AlertChannelSettings] = Field({}, description="ways to tell people and bots, by name")
    keys: tuple[SecretStr, ...] = Field((), description="what secrets in the database are sealed with, newest first")
    stream_host: str = Field("127.0.0.1", description="where firings are streamed to WebSocket clients")
    stream_port: int = Field(8790, ge=0, le=65_535, description="0 takes a free one")
    stream_token: SecretStr | None = Field(None, description="who connects must say it; needed beyond the loopback")
    rotation_grace_seconds: float = Field(
        86_400.0, ge=0, le=2_592_000, description="how long webhooks are signed by the old secret too after a rotation"
    )
    permitted_networks: tuple[str, ...] = Field((), description="networks that webhooks may reach though not public")
    permitted_ports: tuple[int, ...] = Field((), description="ports of webhooks beside 443")
    plain_http: bool = Field(False, description="whether webhooks may go over http")
    unlisted: tuple[str, ...] = Field((), description="symbols that Binance does not have: polled sources alone do")
    alpha_vantage: AlertVantageSettings = AlertVantageSettings()
    yahoo: AlertYahooSettings = AlertYahooSettings()
    news: AlertNewsSettings = AlertNewsSettings()
    gateway: AlertGatewaySettings = AlertGatewaySettings()
    scale: AlertScaleSettings = AlertScaleSettings()


class Settings(BaseSettings):
    """Everything that a user may set.

    Read with :func:`load_settings`. Environment variables are ``TAPELINE_<NAME>`` and, inside a section,
    ``TAPELINE_<SECTION>__<NAME>`` (``TAPELINE_TRAINING__TRIALS=30``); they win over the TOML file.
    """

    model_config = SettingsConfigDict(
        env_prefix="TAPELINE_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    root: Path = Field(default_factory=Path.cwd, description="the project folder")
    feature_set: Path | None = Field(None, description="a feature set file; the packaged 'core' set where absent")
    expectations: Path | None = Field(
        None, description="the Great Expectations project; the root's expectations/ where absent"
    )
    notifications: NotificationSettings = NotificationSettings()
    metatrader: MetaTraderSettings = MetaTraderSettings()
    exchanges: dict[str, ExchangeSettings] = Field({}, description="credentials by exchange, such as binance or oanda")
    network: NetworkSettings = NetworkSettings()
    stream: StreamSettings = StreamSettings()
    training: TrainingSettings = TrainingSettings()
    card: CardSettings = CardSettings()
    charts: ChartSettings = ChartSettings()
    scoring: ScoringSettings = ScoringSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    costs: CostSettings = CostSettings()
    calendars: CalendarSettings = CalendarSettings()
    workers: WorkerSettings = WorkerSettings()
    quality: QualitySettings = QualitySettings()
    cleaning: CleaningSettings = CleaningSettings()
    clock: ClockSettings = ClockSettings()
    alerts: AlertSettings = AlertSettings()

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @property
    def lake_path(self) -> Path:
        """The folder of the Parquet lake."""
        return self.root / "data"

    @property
    def state_path(self) -> Path:
        """Small files that remember something between runs: the alert history, Optuna journals, reports."""
        return self.root / "data" / "_state"

    @property
    def reports_path(self) -> Path:
        """Where HTML reports are written."""
        return self.root / "data" / "_reports"

    @property
    def expectations_path(self) -> Path:
        """The Great Expectations project (``gx/`` lies inside)."""
        return self.expectations or self.root / "expectations"

    @property
    def mlflow_path(self) -> Path:
        """The folder of MLflow's SQLite backend and artifacts."""
        return self.root / "mlruns"

    @property
    def mlflow_uri(self) -> str:
        """The tracking URI: MLFLOW_TRACKING_URI where the environment names one, else SQLite in ``mlruns/``."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow_path / 'mlflow.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the TOML file."""
        path = settings_file()
        toml = (TomlConfigSettingsSource(settings_cls, toml_file=path),) if path else ()
        return (init_settings, env_settings, *toml)


def settings_file() -> Path | None:
    """The TOML file in force: the one that TAPELINE_SETTINGS names, else ``tapeline.toml`` here, else none."""
    named = os.environ.get(SETTINGS_FILE_VARIABLE)
    path = Path(named or DEFAULT_SETTINGS_FILE)
    if path.is_file():
        return path
    if named:
        raise ConfigurationError(f"{SETTINGS_FILE_VARIABLE} names '{named}', which is not a file")
    return None


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings; what is wrong is named with its place and its bound.

    Raises
    ------
    ConfigurationError
        An unknown name, a value out of its bounds, or a TOML file that does not parse.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        # The value may be a secret: it is not repeated.
        raise ConfigurationError(f"setting '{place}': {first['msg']}", hint=_where()) from None
    except ValueError as error:  # a TOML syntax error
        raise ConfigurationError(f"the settings do not parse: {error}", hint=_where()) from error


def _where() -> str:
    path = settings_file()
    return f"look in the environment (TAPELINE_*){f' and in {path}' if path else ''}"
