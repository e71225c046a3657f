"""Attacks on the bounds of docs/security.md: each makes the service keep more than the bound of a row.

Each module has a dictionary `ATTACKS`: the name of a row, and the function that drives it past its bound.
"""

from collections.abc import Callable

from tests.support.process import Service

Attack = Callable[[Service], None]
"""Attacks a service. It asserts how the service refuses the attack; the caller watches the service."""
