"""Calls a function with a module after the module was imported."""

import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

Hook = Callable[[ModuleType], None]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that have a hook, and no others."""

    def __init__(self) -> None:
        self.hooks: dict[str, Hook] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        hook = self.hooks.get(fullname)
        spec = None if hook is None else PathFinder.find_spec(fullname, path, target)
        if hook is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            execute(module)
            hook(module)

        vars(spec.loader)["exec_module"] = execute_and_call
        return spec


_finder = _Finder()


def call_after_import(name: str, hook: Hook) -> None:
    """Call ``hook`` with the module ``name``: now if it is imported already, otherwise after its import."""
    if name in sys.modules:
        hook(sys.modules[name])
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.hooks[name] = hook
