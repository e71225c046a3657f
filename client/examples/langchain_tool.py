"""A LangChain tool that runs Python in a session, and a loop for any chat model that calls tools.

pip install langchain-core, and the package of your model, such as langchain-openai
"""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import BaseTool, tool

from code_interpreter_client import Result, Session


def python_tool(session: Session) -> BaseTool:
    """Return a tool whose messages have the printed text, and the whole `Result` as their artifact."""

    @tool(response_format="content_and_artifact")
    def run_python(code: str) -> tuple[str, Result]:
        """Run Python in a sandbox and return what it prints.

        Variables, imports and files stay between calls. The value of the last line is shown. pandas,
        matplotlib and scikit-learn are installed; there is no network.
        """
        result = session.run(code, timeout=10)
        return result.summary(), result

    return run_python


def answer(model: BaseChatModel, session: Session, question: str, turns: int = 10) -> list[BaseMessage]:
    """Return the conversation. Its last message is the model's answer; tool messages have the results."""
    run_python = python_tool(session)
    ready = model.bind_tools([run_python])
    messages: list[BaseMessage] = [HumanMessage(question)]
    for _ in range(turns):
        reply = ready.invoke(messages)
        messages.append(reply)
        if not reply.tool_calls:
            break
        messages += [run_python.invoke(call) for call in reply.tool_calls]
    return messages
