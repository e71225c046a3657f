"""A pydantic-ai agent that runs Python in a session and sees the charts it draws.

pip install pydantic-ai-slim[openai], or the extra of your model
"""

from pydantic_ai import Agent, BinaryContent, RunContext, ToolReturn

from code_interpreter_client import AsyncClient, AsyncSession

agent = Agent(
    deps_type=AsyncSession,
    instructions="Use run_python for all computations. pandas and matplotlib are installed.",
)


@agent.tool
async def run_python(context: RunContext[AsyncSession], code: str) -> ToolReturn:
    """Run Python in a sandbox. Variables and files stay between calls; the last line's value is shown."""
    result = await context.deps.run(code, timeout=10)
    images = [BinaryContent(image.data, media_type=image.media_type) for image in result.images]
    return ToolReturn(result.summary(), content=images or None, metadata=result)


async def answer(question: str, model: str) -> str:
    """Open a session and return the agent's answer."""

    async with AsyncClient() as client, client.session() as session:
        return (await agent.run(question, model=model, deps=session)).output
