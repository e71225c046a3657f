"""The examples of the client, with the real frameworks and scripted models."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from pydantic_ai import BinaryContent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from code_interpreter_client import AsyncClient, Client, Result, Session
from tests.client.odd_server import OddServer, reply
from tests.support.process import ROOT, Service

sys.path.insert(0, str(ROOT / "client" / "examples"))
import langchain_tool
import openai_tool
import pydantic_ai_tool

DRAW = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"


@pytest.fixture
def session(service: Service) -> Iterator[Session]:
    """Open a session for a conversation."""
    with Client(service.base_url) as client, client.session() as opened:
        yield opened


def completion(message: dict[str, Any]) -> Callable[..., None]:
    """Return an answer of a chat completions server."""
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}],
    }
    return reply(200, json.dumps(body).encode())


def tool_call(arguments: str) -> dict[str, Any]:
    """Return a message that calls the tool."""
    function = {"name": "run_python", "arguments": arguments}
    return {"content": None, "tool_calls": [{"id": "call-1", "type": "function", "function": function}]}


def test_openai_example_runs_the_code_of_the_model(session: Session, odd_server: OddServer) -> None:
    """Variables stay between calls. Invalid arguments are answered with an explanation."""
    odd_server.script = [
        completion(tool_call(json.dumps({"code": "primes = [2, 3, 5]"}))),
        completion(tool_call("not JSON")),
        completion(tool_call(json.dumps({"code": "sum(primes)"}))),
        completion({"content": "It is 10."}),
    ]
    with openai.OpenAI(base_url=odd_server.url, api_key="scripted") as model:
        assert openai_tool.answer(model, session, "What is the sum of the first three primes?") == "It is 10."
    bodies = [json.loads(seen.body) for seen in odd_server.seen]
    assert bodies[0]["tools"] == [openai_tool.TOOL]
    answers = [message["content"] for message in bodies[-1]["messages"] if message["role"] == "tool"]
    assert answers == ["[nothing was printed]", 'The arguments have to be JSON: {"code": "…"}', "10"]


class ScriptedModel(FakeMessagesListChatModel):
    """langchain-core's fake chat model with scripted answers, which accepts tools."""

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        assert [tool.name for tool in tools] == ["run_python"]
        assert "code" in tools[0].args
        return self


def test_langchain_tool_returns_text_and_the_result(session: Session) -> None:
    """The message has the printed text, and the result as its artifact."""
    script: list[BaseMessage] = [
        AIMessage("", tool_calls=[{"name": "run_python", "args": {"code": DRAW}, "id": "1"}]),
        AIMessage("", tool_calls=[{"name": "run_python", "args": {"code": "1 / 0"}, "id": "2"}]),
        AIMessage("Drawn."),
    ]
    messages = langchain_tool.answer(ScriptedModel(responses=script), session, "Draw a line.")
    assert messages[-1].content == "Drawn."
    drawn, failed = [message for message in messages if isinstance(message, ToolMessage)]
    assert isinstance(drawn.artifact, Result)
    assert drawn.artifact.images[0].data.startswith(b"\x89PNG")
    assert "[images shown: 1]" in str(drawn.content)
    assert "ZeroDivisionError" in str(failed.content)


async def test_pydantic_ai_agent_sees_its_charts(service: Service) -> None:
    """The model gets the text as the tool's answer, and the picture beside it."""
    seen: list[object] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts = [part for message in messages for part in message.parts]
        seen[:] = [getattr(part, "content", None) for part in parts]
        if len(messages) == 1:
            assert [tool.name for tool in info.function_tools] == ["run_python"]
            return ModelResponse(parts=[ToolCallPart("run_python", {"code": f"print('drawing')\n{DRAW}"})])
        return ModelResponse(parts=[TextPart("A line.")])

    async with AsyncClient(service.base_url) as client, client.session() as session:
        run = await pydantic_ai_tool.agent.run("Draw a line.", model=FunctionModel(model), deps=session)
    assert run.output == "A line."
    assert "drawing" in str(seen)
    pictures = [
        item
        for content in seen
        if isinstance(content, list | tuple)
        for item in content
        if isinstance(item, BinaryContent)
    ]
    assert [(picture.media_type, picture.data[:4]) for picture in pictures] == [("image/png", b"\x89PNG")]


async def test_pydantic_ai_test_model_calls_the_tool(service: Service) -> None:
    """This model calls every tool with generated arguments. Nonsense runs as any code does."""
    async with AsyncClient(service.base_url) as client, client.session() as session:
        run = await pydantic_ai_tool.agent.run("Anything.", model=TestModel(), deps=session)
        assert "run_python" in run.output
        assert len(await session.cells()) == 1


@pytest.mark.parametrize("page", ["README.md", "client/README.md"])
def test_first_code_of_a_readme_prints_what_the_readme_says(
    page: str, service: Service, tmp_path: Path
) -> None:
    """The code runs as a reader would copy it, except for the address and for longer timeouts."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    code = next(block for block in blocks if "code_interpreter_client" in block)
    patient = re.sub(r"""(\.run\(".*?")(, timeout=\d+)?\)""", r"\1, timeout=28)", code)
    ended = subprocess.run(
        [sys.executable, "-c", patient.replace("http://127.0.0.1:8000", service.base_url)],
        env={"CODE_INTERPRETER_URL": service.base_url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    assert ended.stdout.split() == re.findall(r"# (\w+)$", code, re.MULTILINE) == ["16"]


def test_readme_lists_every_example() -> None:
    """The README of the client names each file in `client/examples`."""
    page = (ROOT / "client" / "README.md").read_text()
    for example in Path(ROOT / "client" / "examples").glob("*.py"):
        assert f"examples/{example.name}" in page
