"""Routes of the container as a whole: start, end and scrub its kernel, renew the lease, report the state."""

import signal

from kernel_image.confinement import cgroup
from kernel_image.supervisor.api.handler import Handler
from kernel_image.supervisor.kernel_process import KernelFailed
from kernel_image.supervisor.scrub.not_clean import NotClean


class KernelHandler(Handler):
    """/kernel"""

    async def post(self) -> None:
        try:
            await self.supervisor.start_kernel(**self.json())
        except KernelFailed as error:
            return self.refuse(503, error)
        self.finish({})

    async def delete(self) -> None:
        await self.supervisor.kernel.kill()
        self.finish({})


class ScrubHandler(Handler):
    """/scrub"""

    async def post(self) -> None:
        if self.supervisor.busy:
            return self.refuse(409, "a cell is running")
        try:
            await self.supervisor.scrub()
            await self.supervisor.start_kernel(self.json()["key"])
        except NotClean as error:
            return self.refuse(409, error, fact=error.fact)
        except KernelFailed as error:
            return self.refuse(409, error)
        self.finish({})


class InterruptHandler(Handler):
    """/interrupt"""

    def post(self) -> None:
        self.supervisor.interrupt(signal.SIGKILL if self.json().get("kill") else signal.SIGINT)
        self.finish({})


class LeaseHandler(Handler):
    """/lease"""

    def post(self) -> None:
        self.supervisor.renew_lease(float(self.json()["seconds"]))
        self.finish({})


class IdleHandler(Handler):
    """/idle"""

    def post(self) -> None:
        self.supervisor.idle_cpu.renew()
        self.finish({})


class StatusHandler(Handler):
    """/status"""

    def get(self) -> None:
        kernel = self.supervisor.kernel
        self.finish(
            {
                "kernel": kernel.pid,
                "memory_bytes": cgroup.resident_bytes(),
                "failed_preloads": kernel.failed_preloads,
            }
        )
