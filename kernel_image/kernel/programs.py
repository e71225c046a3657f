"""Gives each cell a file, as a script has one.

`inspect`, tracebacks, `__file__` and child processes that import the program (`multiprocessing` with "spawn")
then work as in a script. The files are not in the workspace, so they are no outputs.
"""

import contextlib
import inspect
import linecache
import os
import re
from collections.abc import Collection, MutableMapping
from types import ModuleType
from typing import Any, Final

from ipykernel.compiler import XCachingCompiler
from IPython.core.interactiveshell import InteractiveShell

from kernel_image.kernel.post_import import call_after_import

_FOLDER: Final = "/tmp/program"
_KEPT_FILES: Final = 10
"""Number of the latest cells that have a file. The source of earlier ones is in memory only."""
_FILE_BYTES: Final = 1 << 18
"""Size of the largest file. The files take room in /tmp, which belongs to the user."""


class Compiler(XCachingCompiler):
    """IPython's compiler, which writes the source of each cell to a file and sets `__file__`."""

    def __init__(self, namespace: MutableMapping[str, Any]) -> None:
        super().__init__()
        self._namespace = namespace

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        return f"{_FOLDER}/cell_{number}.py"

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        name: str = super().cache(transformed_code, number, raw_code)
        self._namespace["__file__"] = name
        source = (transformed_code if raw_code is None else raw_code).encode("utf-8", "replace")
        # The disk may be full, or the folder may have been made unwritable. Then there is no file.
        with contextlib.suppress(OSError):
            os.makedirs(_FOLDER, exist_ok=True)
            if len(source) <= _FILE_BYTES:
                with open(name, "wb") as file:
                    file.write(source)
        with contextlib.suppress(OSError):
            os.unlink(self.get_code_name("", "", number - _KEPT_FILES))
        return name

    @property
    def files(self) -> Collection[str]:
        """The files of all cells, also of those that have none any more."""
        return self._filename_map.keys()

    def find_class(self, name: str) -> str | None:
        """Return the file of the latest cell whose source defines a class of this name."""
        definition = re.compile(rf"^\s*class\s+{re.escape(name)}\b", re.MULTILINE)
        for file in reversed(list(self._filename_map)):
            if definition.search("".join(linecache.getlines(file))):
                return str(file)
        return None


def prepare(shell: InteractiveShell) -> None:
    """Give the cells of `shell` files, and let `inspect` and child processes find them.

    Called in the kernel's own process: the zygote would write a file for its own cell.
    """
    shell.compile = compiler = Compiler(shell.user_ns)
    _find_classes_with(compiler)
    _keep_children_from_running(compiler)


def _keep_children_from_running(compiler: Compiler) -> None:
    """Let child processes by "spawn" import the program only if it has a main guard.

    Without one, a child would run the whole program again. In a notebook such code works, as long as the
    child calls functions of libraries only.
    """

    def change(spawn: ModuleType) -> None:
        prepare = spawn.get_preparation_data

        def prepare_guarded(name: str) -> dict[str, Any]:
            data: dict[str, Any] = prepare(name)
            path = data.get("init_main_from_path")
            if (
                path is not None
                and path in compiler.files
                and "__main__" not in "".join(linecache.getlines(path))
            ):
                del data["init_main_from_path"]
            return data

        spawn.get_preparation_data = prepare_guarded  # type: ignore[attr-defined]

    call_after_import("multiprocessing.spawn", change)


def _find_classes_with(compiler: Compiler) -> None:
    """Let `inspect.getfile` find the file of a class that any cell has defined.

    By itself it takes the file of the module, but `__main__` has one for each cell.
    """
    getfile = inspect.getfile

    def getfile_of_cells(subject: Any) -> str:
        if isinstance(subject, type) and subject.__module__ == "__main__":
            file = compiler.find_class(subject.__name__)
            if file is not None:
                return file
        return getfile(subject)

    vars(inspect)["getfile"] = getfile_of_cells
