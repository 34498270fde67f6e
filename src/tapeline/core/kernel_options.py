"""How the kernels of engines are compiled."""

from __future__ import annotations

from typing import Any, Final

BORROWED: Final[dict[str, Any]] = {"cache": True, "nogil": True, "_nrt": False}
"""For kernels that neither make nor return an array: they borrow those of their caller and count no references.

A call with a tuple of arrays otherwise counts each of them up and down with atomic instructions, which was nine tenths
of what an order cost. Numba refuses to compile a kernel that would need the counting.
"""

INNER: Final[dict[str, Any]] = BORROWED | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""For borrowing kernels that only kernels call: without the code that Python would call them by they compile faster."""

OWNING: Final[dict[str, Any]] = {"cache": True, "nogil": True, "_nrt": True}
"""For kernels that make arrays and are called by borrowing ones.

Said aloud, because Numba lets a kernel that is first compiled for its caller inherit the caller's options: without
this, whether it compiles would depend on who was called first.
"""

OWNING_INNER: Final[dict[str, Any]] = OWNING | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""For kernels that make arrays and that only kernels call."""
