"""How the kernels of the alert engine are compiled: as any engine's, and a division by zero gives what IEEE says."""

from __future__ import annotations

from typing import Any, Final

from tapeline.core import kernel_options

_IEEE: Final = {"error_model": "numpy"}

BORROWED: Final[dict[str, Any]] = kernel_options.BORROWED | _IEEE
INNER: Final[dict[str, Any]] = kernel_options.INNER | _IEEE
