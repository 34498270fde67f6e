"""How the kernels of the engine are compiled."""

from __future__ import annotations

from typing import Any, Final

BORROWED: Final[dict[str, Any]] = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy"}
"""For kernels that neither make nor return an array: they borrow those of their caller and count no references.

Counting them up and down at each call would cost more than a tick's work. A division by zero gives what IEEE says.
"""

INNER: Final[dict[str, Any]] = BORROWED | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""For kernels that only kernels call: without the code that Python would call them by they compile faster."""
