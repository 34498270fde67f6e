"""Every exception of ccxt is exactly one error of Tapeline, and no message holds a secret."""

from __future__ import annotations

import inspect
import pickle

import ccxt
import pytest
from ccxt.base import errors as ccxt_errors

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError, TemporaryError, ThrottledError
from tapeline.core.exchange_errors import (
    OF_CCXT,
    AccessDeniedError,
    CredentialsError,
    MaintenanceError,
    NonceError,
    RequestRefusedError,
    UnknownSymbolError,
    VenueUnavailableError,
    exchange_error,
    retry_after_of,
)

CLASSES = {
    name: found for name, found in vars(ccxt_errors).items() if inspect.isclass(found) and issubclass(found, Exception)
}
BRANCHES = (TemporaryError, ConfigurationError, ProviderError)


def test_the_table_names_every_class_of_ccxt_and_no_other() -> None:
    assert len(CLASSES) > 35
    assert set(OF_CCXT) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_becomes_its_error_of_one_branch(name: str) -> None:
    found = exchange_error(CLASSES[name]("words"), "venue")
    assert type(found) is OF_CCXT[name]
    assert sum(isinstance(found, branch) for branch in BRANCHES) == 1
    assert found.message == f"venue: {name}: words"
    assert type(pickle.loads(pickle.dumps(found))) is type(found)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_ccxt_says_heals_is_temporary_and_what_a_person_must_change_is_not(name: str) -> None:
    kind = CLASSES[name]
    found = exchange_error(kind("words"), "venue")
    if issubclass(kind, ccxt.NetworkError):
        assert isinstance(found, TemporaryError)
    if issubclass(kind, ccxt.AuthenticationError):
        assert isinstance(found, ConfigurationError)
    if issubclass(kind, ccxt.InvalidOrder | ccxt.InsufficientFunds | ccxt.BadRequest):
        assert not isinstance(found, TemporaryError)


def test_a_class_that_ccxt_adds_is_found_by_its_nearest_base() -> None:
    added = type("AccountAsleep", (ccxt.AccountSuspended,), {"__module__": "ccxt.base.errors"})
    assert type(exchange_error(added("x"), "venue")) is AccessDeniedError


def test_a_class_of_another_library_is_not_taken_for_one_of_ccxt() -> None:
    stranger = type("BadSymbol", (Exception,), {})
    assert type(exchange_error(stranger("x"), "venue")) is ProviderError
    assert type(exchange_error(ConnectionResetError("x"), "venue")) is VenueUnavailableError


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ccxt.ExchangeNotAvailable("x"), 403, RequestRefusedError),
        (ccxt.ExchangeNotAvailable("x"), 451, RequestRefusedError),
        (ccxt.ExchangeNotAvailable("x"), 503, VenueUnavailableError),
        (ccxt.RequestTimeout("x"), 408, VenueUnavailableError),
        (ccxt.OnMaintenance("x"), 400, MaintenanceError),
        (ccxt.InvalidNonce("x"), 400, NonceError),
        (ccxt.AuthenticationError("x"), 401, CredentialsError),
        (ccxt.BadSymbol("x"), 400, UnknownSymbolError),
        (ccxt.ExchangeNotAvailable("x"), 429, ThrottledError),
        (ccxt.BadRequest("x"), 418, ThrottledError),
    ],
)
def test_the_status_of_the_answer_decides_where_ccxt_says_little(error, status, kind) -> None:
    assert type(exchange_error(error, "venue", status=status)) is kind


def test_throttling_carries_what_was_asked_for() -> None:
    found = exchange_error(ccxt.RateLimitExceeded("slow"), "kraken", retry_after=7.0)
    assert isinstance(found, ThrottledError)
    assert found.retry_after == 7.0
    assert str(found).endswith("(try again in 7 s)")


def test_secrets_and_queries_are_cut_out() -> None:
    text = "binance GET https://api.binance.com/api/v3/account?timestamp=1&signature=abcdef {'apiKey': 'my-key-long'}"
    found = exchange_error(ccxt.ExchangeError(text), "binance", secrets=["my-key", "my-key-long", ""])
    assert "signature" not in str(found)
    assert "abcdef" not in str(found)
    assert "my-key" not in str(found)
    assert "long" not in str(found)
    assert "https://api.binance.com/api/v3/account" in str(found)
    assert len(exchange_error(ccxt.ExchangeError("y" * 10_000), "x").message) < 400


def test_an_error_of_ours_stays_itself() -> None:
    mine = TapelineError("mine")
    assert exchange_error(mine, "venue") is mine


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("0", 0.0), ("-1", None), ("inf", None), ("Wed, 21", None)])
def test_only_finite_seconds_are_a_wait(text: str, seconds: float | None) -> None:
    assert retry_after_of({"RETRY-AFTER": text}) == seconds
