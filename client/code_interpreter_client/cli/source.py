"""Whether the code that a user types is complete, and how its next line is indented."""

import ast
import codeop
import re
import warnings
from typing import Final

_INDENT: Final = "    "
_ENDS_BLOCK: Final = re.compile(r"\s*(return|raise|pass|break|continue)\b")
_NOT_PYTHON: Final = re.compile(r"^([ \t]*)[%!].*$", re.MULTILINE)


def is_complete(code: str) -> bool:
    """Return whether code can be run. A block and a cell magic are complete after an empty line.

    Code with a syntax error is complete, so that the kernel reports the error.
    """
    lines = code.split("\n")
    ends_empty = len(lines) > 1 and not lines[-1].strip()
    if lines[0].startswith("%%"):
        return ends_empty
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = compiler(_NOT_PYTHON.sub(r"\1pass", code), "<cell>", "exec")
    except (SyntaxError, ValueError, OverflowError):
        return True
    return compiled is not None and (ends_empty or not lines[-1][:1].isspace())


def indent_after(line: str) -> str:
    """Return the indentation of the line that follows `line`."""
    indent = line[: len(line) - len(line.lstrip())]
    if line.rstrip().endswith(":"):
        return indent + _INDENT
    if _ENDS_BLOCK.match(line):
        return indent.removesuffix(_INDENT)
    return indent
