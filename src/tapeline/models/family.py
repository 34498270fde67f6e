"""A family of models: its defaults, its search space, and what it needs of the pipeline around it.

Importing this module loads no learning library; building a model does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tapeline.core.errors import ConfigurationError, MissingExtraError
from tapeline.models.column_map import ScalingKind

Parameters = Mapping[str, Any]
Builder = Callable[[int, int, dict[str, Any]], Any]
Space = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Parameters
    ----------
    name:
        What :func:`tapeline.models.estimator.build_estimator` knows it by.
    summary:
        One sentence.
    defaults:
        Its parameters where none are given; a point of its search space.
    needs_complete:
        Whether missing values must be filled before it; trees take them as they are.
    scaling:
        The scaler it gets where none is asked for.
    builder:
        ``(seed, threads, parameters)`` to an unfitted classifier; call :meth:`build`.
    space:
        Draws parameters from an Optuna trial, or from anything with its ``suggest_float``, ``suggest_int`` and
        ``suggest_categorical``.
    grid:
        A few values a parameter, for a search over all combinations.
    fixed:
        Parameters that seed and threads decide, or that keep the same data giving the same model.
    extra:
        The extra that brings its package, where the default install does not.
    package:
        The package that the extra brings.
    rounds:
        The parameter that early stopping finds, of boosted families only.
    monotone:
        The parameter that takes a direction a column, where the family can be held to one.
    reads_rows:
        Whether it reads the rows as they come: no column filter, no selector, no scaler stands before it.
    settings:
        Which settings of a training run are parameters of it, such as the number of folds of an ensemble's own.
    """

    name: str
    summary: str
    defaults: Parameters
    needs_complete: bool
    scaling: ScalingKind | Literal["none"]
    builder: Builder
    space: Space
    grid: Mapping[str, tuple[Any, ...]]
    fixed: tuple[str, ...] = ()
    extra: str | None = None
    package: str | None = None
    rounds: str | None = None
    monotone: str | None = None
    reads_rows: bool = False
    settings: tuple[str, ...] = ()

    def build(self, seed: int = 0, threads: int = 1, parameters: Parameters | None = None) -> Any:
        """An unfitted classifier of scikit-learn's kind.

        Parameters
        ----------
        seed, threads:
            Same seed, same bits, for a given number of threads. Families without chance or threads ignore them.
        parameters:
            Over the defaults.

        Raises
        ------
        ConfigurationError
            A parameter is one that seed and threads decide, or is unknown to a family that can tell.
        MissingExtraError
            The family's package is not installed.

        Examples
        --------
        >>> from tapeline.models.zoo import family
        >>> family("logistic").build(parameters={"C": 2.0}).C
        2.0
        """
        given = dict(parameters or {})
        decided = [name for name in given if name in self.fixed]
        if decided:
            raise ConfigurationError(
                f"{self.name}: the parameters {decided} are not free: same data and seed must give the same model",
                hint="give seed and threads by their own names",
            )
        try:
            return self.builder(seed, threads, {**self.defaults, **given})
        except ModuleNotFoundError as error:
            if self.extra is None or self.package is None or error.name != self.package:
                raise
            raise MissingExtraError(self.package, self.extra) from error
        except TypeError as error:
            raise ConfigurationError(
                f"{self.name} does not take these parameters: {error}",
                hint=f"its defaults are {', '.join(sorted(self.defaults)) or 'none'}",
            ) from error
