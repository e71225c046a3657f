"""Tests of every call of the OpenAPI document with valid and invalid data, alone and in sequence.

No answer is a 500, each has a documented status, media type and body, bad data is refused, and a method that
there is not is a 405.
"""

from typing import Any

import pytest
import schemathesis
from schemathesis import Case, CheckContext, Response

from tests.fuzz.conftest import clear
from tests.fuzz.document import DOCUMENT, EXAMPLES, calls, looked_for
from tests.support.process import Service

pytestmark = pytest.mark.timeout(0 if EXAMPLES else 120)

BEYOND_SCHEMAS = "value_error"
"""Pydantic's type of what our own validators refuse, such as NUL in code."""


@schemathesis.check
def good_data_is_accepted(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """The service refuses a request that the document allows only for reasons that no schema can express.

    It takes the place of the library's check, to which every 422 is wrong: a path that is absolute, or a
    cursor of no list, is in order by the document.
    """
    if response.status_code == 422 and case.meta is not None and case.meta.generation.mode.is_positive:
        detail = response.json()["detail"]
        reasons = detail if isinstance(detail, list) else []
        assert all(reason["type"] == BEYOND_SCHEMAS for reason in reasons), response.text


def test_the_document_is_that_of_the_service(target: Service) -> None:
    """The tests below are generated from the document that the service returns."""
    assert target.api.http.get("/openapi.json").json() == DOCUMENT


@calls.parametrize()
@looked_for(3)
def test_each_call_answers_as_documented(case: Case[Any], target: Service) -> None:
    """Generated data is sent in every part of the request."""
    case.call_and_validate(base_url=target.base_url)


def test_calls_in_sequence_answer_as_documented(target: Service) -> None:
    """Later calls use, change and delete what earlier calls made."""

    class Story(calls.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            clear(target.api)  # each sequence of calls must begin in the same state

        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            return {"base_url": target.base_url}

    Story.run(settings=looked_for(15))
