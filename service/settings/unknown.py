"""Finds variables of the environment that look like settings and are none, for instance misspelt ones."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

_PREFIXES: Final = (
    *("CONTAINER_", "FILE_STORAGE_", "KERNEL_", "KEY_", "POOL_", "PYTHON_EXECUTOR_", "QUEUE_", "REGISTRY_"),
    *("REPLICA_", "SESSION_"),
)
"""Beginnings that other programs hardly use. `DOCKER_`, `KUBERNETES_` and `OTEL_` are used by others."""
_LIKENESS: Final = 0.85
"""Least ratio of `difflib` of a misspelt name: one or two characters differ."""


def unknown_settings(variables: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each variable that has the prefix of a setting, or nearly the name of one.

    Args:
        variables: the names of the environment's variables.
        known: the names of all settings, in capitals.
    """
    names = sorted(known)
    for variable in sorted(set(variables) - set(names)):
        similar = difflib.get_close_matches(variable, names, n=1, cutoff=_LIKENESS)
        if similar:
            yield f"{variable} is not a setting and has no effect. Did you mean {similar[0]}?"
        elif variable.startswith(_PREFIXES):
            yield f"{variable} is not a setting and has no effect. docs/settings.md lists all settings."
