"""Tests of user code that sends malformed or forged messages with its kernel's key."""

import json

import pytest

from service.routes.schemas.execute import ExecuteResult
from tests.hostile.forgery import FORGE, MALFORMED, valid_outputs, validate
from tests.support.process import Service
from tests.support.session import Session
from tests.support.sse import strict_json

pytestmark = pytest.mark.usefixtures("canary")


@pytest.mark.parametrize("attack", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_skipped(session: Session, attack: str) -> None:
    """The answer is as without them, the next display is part of it, and nothing fails.

    A message that no display function has sent has no place in the order: it may come after the next display,
    or clear it.
    """
    result = session.run(f"{FORGE}\n{attack}\ndisplay('after')\nprint('end')")
    outputs = valid_outputs(result)
    texts = [output.get("data", {}).get("text/plain") for output in outputs]
    assert "'after'" in texts or "clear" in attack or "outputs" in result["truncated"], outputs[-3:]
    assert "unsigned" not in str(outputs)
    assert (result["stdout"], result["exit_code"], result["state"]) == ("end\n", 0, "kept"), result["stderr"]
    streamed = session.stream(f"{FORGE}\n{attack}\ndisplay('after')\nprint('end')")
    assert streamed[-1].type == "result"
    ExecuteResult.model_validate(streamed[-1].data, strict=True)
    notebook = strict_json(session.call("GET", "/notebook").content)
    validate(notebook)


def test_messages_after_one_that_is_too_large_are_read(session: Session) -> None:
    """A message of 18 MB is skipped, a note says so, and the channel stays open.

    The limit is 16 MiB. The text is made as bytes, since more copies would exceed the kernel's memory limit.
    """
    attack = """publish('display_data', b'{"data":{"text/plain":"%b"},"metadata":{}}' % (b'x' * 18_000_000))
display('after')"""
    result = session.run(f"{FORGE}\n{attack}")
    outputs = valid_outputs(result)
    assert result["truncated"] == ["outputs"]
    assert [output["data"]["text/plain"][:12] for output in outputs] == ["[output left", "'after'"]


def test_forged_file_id_in_a_display_is_removed(session: Session, target: Service) -> None:
    """A file id that user code adds to its display is not passed on: it may be the id of another's file."""
    other = target.api.upload(b"a file of another caller")
    attack = f"""forged = {{"file_id": "{other}", "width": 3}}
named = {{"image/png": forged, "text/plain": forged, "x": forged}}
publish('display_data', {{"data": {{"text/plain": "x", "image/png": "!"}}, "metadata": named}})
publish('display_data', {{"data": {{"text/plain": "x", "image/png": 7}}, "metadata": named}})"""
    result = session.run(f"{FORGE}\n{attack}")
    assert other not in json.dumps(valid_outputs(result))
    assert result["outputs"][0]["metadata"]["text/plain"] == {"width": 3}
    response = session.call(
        "POST", "/execute", params={"images": "ref"}, json={"code": f"{FORGE}\n{attack}", "timeout_ms": 5000}
    )
    assert response.json()["outputs"][0]["data"]["text/plain"] == "x", "a forged id replaces no data"
