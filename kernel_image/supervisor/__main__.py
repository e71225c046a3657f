"""PID 1 of a kernel container: close the network, give up privileges, supervise until the lease ends."""

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from kernel_image import contract
from kernel_image.confinement import lockdown
from kernel_image.supervisor import container_setup as place
from kernel_image.supervisor.api import application
from kernel_image.supervisor.forks import Forks
from kernel_image.supervisor.relay import Relay
from kernel_image.supervisor.supervisor import Supervisor
from kernel_image.supervisor.workspace import Workspace

if TYPE_CHECKING:
    from kernel_image.supervisor.certificate import Identity


def _reap(zygote: int, ended: asyncio.Event) -> None:
    """Orphans of the user's code become children of PID 1; without the zygote there is no kernel."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == zygote:
            ended.set()
        if pid == 0:
            return


def _speak_tls(token_digest: str) -> "Identity":
    """Make an identity, and take over the kernel's ports with it."""
    # Only here: it holds 15 MB.
    from kernel_image.supervisor.certificate import Identity  # noqa: PLC0415

    identity = Identity(token_digest)
    for port in (contract.SHELL_PORT, contract.IOPUB_PORT):
        Relay(port, identity.context)
    return identity


async def main() -> None:
    """Serve until the lease runs out, the engine says stop, or the zygote dies."""
    token_digest = os.environ.pop(contract.TOKEN_DIGEST_VARIABLE)
    lease_sec = float(os.environ.pop(contract.LEASE_VARIABLE))
    most_processes = int(os.environ.pop(contract.PROCESSES_VARIABLE, 0))
    is_sealed = os.environ.pop(contract.TLS_VARIABLE, "") == "1"
    outside_only = contract.PORTS if is_sealed else (contract.SUPERVISOR_PORT,)
    lockdown.close_network(contract.PORTS, outside_only_ports=outside_only)
    if most_processes:
        place.make_the_users()
        place.limit_resources()
    lockdown.keep_capabilities(
        (lockdown.CAP_KILL, lockdown.CAP_SETGID, lockdown.CAP_SETUID, lockdown.CAP_SETPCAP)
    )
    forks = Forks()
    lockdown.use_file_access_of(contract.USER_ID)
    supervisor = Supervisor(forks, Workspace(), lease_sec, behind_relay=is_sealed)
    if most_processes:
        supervisor.count(most_processes)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, _reap, forks.zygote.pid, supervisor.expired)
    loop.add_signal_handler(signal.SIGTERM, supervisor.expired.set)
    identity = _speak_tls(token_digest) if is_sealed else None
    application(supervisor, token_digest, identity.proof if identity else None).listen(
        contract.SUPERVISOR_PORT,
        "0.0.0.0",
        max_body_size=1 << 40,
        chunk_size=1 << 17,
        ssl_options=identity.context if identity else None,
    )
    await supervisor.expired.wait()


if __name__ == "__main__":
    status = 1
    try:
        asyncio.run(main())
        status = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)
