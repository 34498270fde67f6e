"""The exception tree: what went wrong decides who may try again.

Four branches, so that a retry policy, a hook and the command line can each decide by class and never by text:

- ``TemporaryError``: the same call may succeed later; Prefect tasks retry these.
- ``ConfigurationError``: a person must change a setting, an argument or an installation first.
- ``DataError``: the data itself is wrong; trying again gives the same answer.
- ``ProviderError``: a service answered, and its answer is unusable (HTML, an unknown schema, a refusal).
"""

from __future__ import annotations


class TapelineError(Exception):
    """Root of every error that Tapeline raises on purpose.

    Parameters
    ----------
    message:
        One sentence that names the value, the parameter and the bound that was crossed.
    hint:
        What the reader can do about it, in one sentence; the command line prints it below the message.

    Examples
    --------
    >>> raise ConfigurationError("timeframe 'H7' is unknown", hint="use one of M1, M5, H1, D1")
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: timeframe 'H7' is unknown (use one of M1, M5, H1, D1)
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # An exception crosses process borders (Dask, subprocess gates); keyword-only fields need help to survive it.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[TapelineError], args: tuple[object, ...], state: dict[str, object]) -> TapelineError:
    error = kind.__new__(kind)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class TemporaryError(TapelineError):
    """The same call may succeed later: a time-out, a lost connection, a lock held by another process."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class ThrottledError(TemporaryError):
    """A service asked us to slow down; ``retry_after`` is what it asked for, in seconds, where it said so."""

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ConfigurationError(TapelineError):
    """A setting, an argument or an installation must be changed by a person first."""

    exit_code = 78  # EX_CONFIG


class MissingExtraError(ConfigurationError):
    """An optional package is absent; the hint names the extra to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"the package '{package}' is not installed", hint=f"pip install 'tapeline[{extra}]'")


class DataError(TapelineError):
    """The data is wrong and will be as wrong on the next try."""

    exit_code = 65  # EX_DATAERR


class SchemaError(DataError):
    """A frame does not match the one Arrow schema of its table; nothing was written."""


class QualityError(DataError):
    """A validation gate refused a batch; the verdict says which expectations failed."""


class LookAheadError(DataError):
    """A value stamped t was seen to depend on what became known after t."""


class VersionMismatchError(DataError):
    """A model was offered features, labels or data of another version than the one it was trained on."""


class ProviderError(TapelineError):
    """A service answered, and its answer cannot be used: HTML, an unknown schema, a refusal, a bad symbol."""

    exit_code = 69  # EX_UNAVAILABLE
