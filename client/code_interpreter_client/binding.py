"""Gives the clients' methods the arguments and docstrings of the flows that they perform."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def describe(method: Method, flow: Callable[..., Any], *, leaving_out: int = 0) -> Method:
    """Give a method the docstring and the arguments of its flow, without the first `leaving_out` of them."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    described = inspect.signature(flow)
    parameters = [own, *list(described.parameters.values())[leaving_out:]]
    method.__doc__ = flow.__doc__
    signature = described.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method
