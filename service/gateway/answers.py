"""The HTTP answers to the errors of the gateway."""

from typing import Final

from service.gateway.errors import KernelSpecNotFound, TooManyConnections
from service.http import answers
from service.http.answers import Answer, Answers

ANSWERS: Final[Answers] = {
    **answers.ANSWERS,
    KernelSpecNotFound: Answer(404, "kernelspec_not_found"),
    TooManyConnections: Answer(429, "too_many_connections", headers=lambda _: {"Retry-After": "10"}),
}
"""Answers to all errors that a call of the gateway may raise."""
