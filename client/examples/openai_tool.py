"""A model that runs Python: a tool definition in OpenAI's form, and the loop that answers its calls.

    pip install openai
    OPENAI_API_KEY=… python client/examples/openai_tool.py "What is the 1000th prime?"

It works with any server that speaks this API: set OPENAI_BASE_URL.
"""

import json
import sys

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from code_interpreter_client import Client, Session

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "run_python",
        "description": "Run Python in a sandbox and get what it prints. Variables, imports and files stay "
        "between calls; the value of the last line is shown. pandas, matplotlib and scikit-learn are "
        "installed; there is no network.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "Python source."}},
            "required": ["code"],
            "additionalProperties": False,
        },
    },
}


def answer(
    model: OpenAI, session: Session, question: str, name: str = "gpt-4.1-mini", turns: int = 10
) -> str:
    """Return the model's answer. The model may run code in up to `turns` turns."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    for _ in range(turns):
        reply = model.chat.completions.create(model=name, messages=messages, tools=[TOOL]).choices[0].message
        if not reply.tool_calls:
            return reply.content or ""
        messages.append(reply.to_dict())  # type: ignore[arg-type]
        for call in reply.tool_calls:
            output = run_call(session, call.function.arguments) if call.type == "function" else "unknown tool"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": output})
    return "No answer: too many turns."


def run_call(session: Session, arguments: str) -> str:
    """Run the code of a tool call, and return text for the model. Its arguments may be invalid."""
    try:
        code = json.loads(arguments)["code"]
    except (ValueError, KeyError, TypeError):
        return 'The arguments have to be JSON: {"code": "…"}'
    return session.run(str(code), timeout=10).summary()


def main() -> None:
    """Answer the question of the command line."""
    with Client() as client, client.session() as session:
        print(answer(OpenAI(), session, " ".join(sys.argv[1:])))


if __name__ == "__main__":
    main()
