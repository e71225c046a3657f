"""Messages of a notebook client that run code in the kernel but are no cells, such as those of widgets."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from sessions.executions.limits import CellLimits
from sessions.kernels.errors import KernelEnded, SupervisorFailed
from sessions.models import CellResult, Mark, OutputChunk, PackedMessage
from sessions.session.state import SessionState


class KernelMessages:
    """Has the kernel of a session handle messages, one at a time, under the session lock."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self.is_handling = False
        """Whether the kernel handles a message now."""

    async def handle(self, message: PackedMessage, limits: CellLimits) -> AsyncGenerator[OutputChunk | Mark]:
        """Have the kernel handle a message, and yield the text that the code prints.

        The message has the limits of a cell, and no place in the history.

        Raises:
            SupervisorFailed: the container failed, and the session has a new kernel or is lost.
        """
        state = self._state
        async with AsyncExitStack() as stack:
            stack.enter_context(state.services.running.one_of(state.owner, runs_already=True))
            await stack.enter_async_context(state.lock.hold())
            self.is_handling = True
            try:
                begun = state.sandbox.runner.begin_message(message, limits.budget, limits.timeout_sec)
                async for event in await stack.enter_async_context(begun):
                    if isinstance(event, OutputChunk | Mark):
                        yield event
                    elif isinstance(event, CellResult):
                        state.used()
                        if not event.kernel_alive:
                            await state.kernel.start()
            except KernelEnded:
                # The object that the message is for has ended with the old kernel.
                await state.kernel.start()
            except SupervisorFailed as error:
                raise await state.recover(error) from error
            finally:
                self.is_handling = False
