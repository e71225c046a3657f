"""PID 1 of a kernel container: close the network, give up privileges, serve until the lease ends."""

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from kernel_image import contract
from kernel_image.confinement import firewall, privileges
from kernel_image.supervisor import container_setup
from kernel_image.supervisor.api.application import application
from kernel_image.supervisor.relay import TlsRelay
from kernel_image.supervisor.supervisor import Supervisor
from kernel_image.supervisor.workspace import Workspace
from kernel_image.supervisor.zygote_client import ZygoteClient

if TYPE_CHECKING:
    from kernel_image.supervisor.certificate import ContainerCertificate


def _reap(zygote_pid: int, stop: asyncio.Event) -> None:
    """Reap all children that have ended: user code's orphans are children of PID 1.

    Stop the supervisor if the zygote is among them, because there is no kernel without it.
    """
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == zygote_pid:
            stop.set()
        if pid == 0:
            return


def _set_up_tls(token_digest: str) -> "ContainerCertificate":
    """Make a certificate, and terminate TLS on the kernel's published ports with it."""
    # Imported only when TLS is used: the module takes 15 MB of memory.
    from kernel_image.supervisor.certificate import ContainerCertificate  # noqa: PLC0415

    certificate = ContainerCertificate(token_digest)
    for port in (contract.SHELL_PORT, contract.IOPUB_PORT):
        TlsRelay(port, certificate.ssl_context)
    return certificate


async def main() -> None:
    """Serve until the lease runs out, the engine sends SIGTERM, or the zygote dies."""
    token_digest = os.environ.pop(contract.TOKEN_DIGEST_VARIABLE)
    user_id = int(os.environ.pop(contract.USER_VARIABLE))
    lease_sec = float(os.environ.pop(contract.LEASE_VARIABLE))
    idle_cpu_sec = float(os.environ.pop(contract.IDLE_CPU_VARIABLE))
    process_limit = int(os.environ.pop(contract.PROCESSES_VARIABLE, 0))
    uses_tls = os.environ.pop(contract.TLS_VARIABLE, "") == "1"
    outside_only = contract.PORTS if uses_tls else (contract.SUPERVISOR_PORT,)
    firewall.close_network(contract.PORTS, outside_only_ports=outside_only)
    if process_limit:
        container_setup.give_folders_to(user_id)
        container_setup.set_resource_limits()
    privileges.keep_capabilities(
        (privileges.CAP_KILL, privileges.CAP_SETGID, privileges.CAP_SETUID, privileges.CAP_SETPCAP)
    )
    zygote = ZygoteClient(user_id)
    privileges.use_file_access_of(user_id)
    supervisor = Supervisor(zygote, Workspace(), lease_sec, idle_cpu_sec, behind_relay=uses_tls)
    supervisor.enforce_count_limits(process_limit)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, _reap, zygote.pid, supervisor.stop)
    loop.add_signal_handler(signal.SIGTERM, supervisor.stop.set)
    certificate = _set_up_tls(token_digest) if uses_tls else None
    application(supervisor, token_digest, certificate.proof if certificate else None).listen(
        contract.SUPERVISOR_PORT,
        "0.0.0.0",
        max_body_size=1 << 40,
        chunk_size=1 << 17,
        ssl_options=certificate.ssl_context if certificate else None,
    )
    await supervisor.stop.wait()


if __name__ == "__main__":
    status = 1
    try:
        asyncio.run(main())
        status = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)
