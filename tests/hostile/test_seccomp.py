"""Tests of the seccomp filter: a cell and a shell command try each system call that it refuses."""

import json
import platform
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest

from kernel_image.confinement import seccomp
from tests.conftest import Run
from tests.support.engine import Engine
from tests.support.process import Service
from tests.support.session import Session, new_session

LOOK = """
import json
from kernel_image.confinement import probe
print(json.dumps(probe._system_calls() | {f"socket: {k}": v for k, v in probe._sockets().items()}))
"""
SPECIAL = (
    *("clone3", "clone of a user namespace", "personality"),
    *("socketpair of AF_TIPC", "socket filter"),
)
SOCKETS = ("raw IPv4", "raw IPv6", "packets", "AF_ALG", "AF_VSOCK", "AF_TIPC", "SCTP", "nftables")
UNCONFINED: dict[str, Any] = {
    "network": "none",
    "user": "50000:50000",
    "cap_drop": ["ALL"],
    "security_opt": ["seccomp=unconfined", "no-new-privileges"],
}
OURS_ALONE = (
    "socket filter",
    "io_setup",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "ptrace",
    "socket: nftables",
)
"""Calls that Docker's default profile allows, on this engine or on others, and that our filter refuses."""


@pytest.fixture(scope="module")
def session(service: Service) -> Iterator[Session]:
    """Open a session on the shared service."""
    with new_session(service) as opened:
        yield opened


@pytest.fixture(scope="module")
def outcomes(service: Service, session: Session) -> dict[str, dict[str, str]]:
    """Try everything in a cell and in a shell command, and return how each attempt ended."""
    in_cell = service.api.run(LOOK)
    in_shell = session.bash(f"python - <<'END'\n{LOOK}\nEND")
    return {"cell": json.loads(in_cell["stdout"]), "shell": json.loads(in_shell["stdout"])}


@pytest.fixture(scope="module")
def unfiltered(engine: Engine) -> dict[str, str]:
    """Make the same attempts as the same user without any filter."""
    found: dict[str, str] = json.loads(engine.plain_python(LOOK, **UNCONFINED))
    return found


@pytest.mark.parametrize("name", [name for name in seccomp.REFUSED if seccomp.number(seccomp.REFUSED[name])])
def test_a_system_call_is_refused(name: str, outcomes: dict[str, dict[str, str]]) -> None:
    """The call fails with EPERM, and the process lives on."""
    assert {place: found[name] for place, found in outcomes.items()} == {"cell": "EPERM", "shell": "EPERM"}


@pytest.mark.parametrize("name", seccomp.ABSENT)
def test_a_system_call_is_absent(name: str, outcomes: dict[str, dict[str, str]]) -> None:
    """The call fails with ENOSYS, as if the Linux kernel had been built without it."""
    assert {place: found[name] for place, found in outcomes.items()} == {"cell": "ENOSYS", "shell": "ENOSYS"}


@pytest.mark.parametrize("name", SPECIAL)
def test_a_system_call_is_refused_for_its_arguments(name: str, outcomes: dict[str, dict[str, str]]) -> None:
    """New namespaces, other personalities and socket families are refused. clone3 fails with ENOSYS."""
    expected = "ENOSYS" if name == "clone3" else "EPERM"
    assert {found[name] for found in outcomes.values()} == {expected}


@pytest.mark.parametrize("name", SOCKETS)
def test_a_kind_of_socket_is_refused(name: str, outcomes: dict[str, dict[str, str]]) -> None:
    """Only Unix, TCP, UDP and ping sockets are allowed, and netlink's queries about addresses."""
    assert {found[f"socket: {name}"] for found in outcomes.values()} == {"EPERM"}


def test_most_calls_are_refused_by_the_filter_alone(unfiltered: dict[str, str]) -> None:
    """Without a filter, most calls end otherwise for the same user."""
    answered = {name for name, ended in unfiltered.items() if ended not in ("EPERM", "ENOSYS")}
    assert len(answered) > 25
    assert {"keyctl", "add_key", "unshare", "userfaultfd", "process_vm_readv", *OURS_ALONE} <= answered


def test_a_filter_cannot_be_taken_off(run: Run) -> None:
    """Code may add a filter that allows all, but the strictest filter still decides."""
    result = run(
        dedent("""
            import ctypes, struct
            from kernel_image.confinement import probe
            allow_all = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
            class Filter(ctypes.Structure):
                _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))
            libc = ctypes.CDLL(None)
            print(libc.prctl(22, 2, ctypes.byref(Filter(1, allow_all)), 0, 0))
            print(libc.prctl(22, 0, 0, 0, 0), libc.prctl(38, 0, 0, 0, 0))
            print({probe._system_calls()[name] for name in ("keyctl", "mount", "io_uring_setup")})
        """)
    )
    assert result["stdout"] == "0\n-1 -1\n{'EPERM'}\n", result["stderr"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 has these calling conventions")
def test_other_calling_conventions_are_refused(run: Run) -> None:
    """All system calls of 32-bit programs (`int 0x80`) and of the x32 ABI fail."""
    result = run(
        dedent("""
            import ctypes, errno, mmap
            libc = ctypes.CDLL(None, use_errno=True)
            print(libc.syscall(0x40000000 | 39), errno.errorcode[ctypes.get_errno()])
            code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, getpid; int 0x80; ret
            start = ctypes.addressof(ctypes.c_char.from_buffer(code))
            print(errno.errorcode[-ctypes.CFUNCTYPE(ctypes.c_int)(start)()])
        """)
    )
    assert result["stdout"] == "-1 EPERM\nEPERM\n", result["stderr"]


def test_commands_that_make_namespaces_fail(session: Session) -> None:
    """`unshare`, `mount` and `umount` report that it is not permitted."""
    for command in ("unshare -r true", "unshare -n true", "mount -t tmpfs none /tmp", "umount /tmp"):
        result = session.bash(command)
        assert result["exit_code"] != 0, command
        assert "not permitted" in result["stderr"] or "must be superuser" in result["stderr"], result


def test_ordinary_programs_work_under_the_filter(run: Run) -> None:
    """Threads, processes, sockets, interface names, shared memory and the libraries work."""
    result = run(
        dedent("""
            import asyncio, concurrent.futures, multiprocessing, os, socket, subprocess, threading
            from multiprocessing import shared_memory
            import matplotlib.pyplot, numpy, pandas, psutil

            threads = [threading.Thread(target=lambda: None) for _ in range(20)]
            [t.start() for t in threads]; [t.join() for t in threads]
            print(subprocess.run(["echo", "child"], capture_output=True).stdout)
            print(os.waitpid(os.spawnlp(os.P_NOWAIT, "true", "true"), 0)[1])
            for method in ("fork", "spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    print(pool.map(abs, [-1, -2]))
            with concurrent.futures.ProcessPoolExecutor(2) as pool:
                print(list(pool.map(abs, [-3])))
            shared = shared_memory.SharedMemory(create=True, size=10); shared.close(); shared.unlink()
            async def child():
                process = await asyncio.create_subprocess_exec("echo", "hi", stdout=-1)
                return (await process.communicate())[0]
            print(asyncio.run(child()))
            print([name for _, name in socket.if_nameindex()], sorted(psutil.net_if_addrs()))
            print(socket.getaddrinfo("localhost", 80)[0][4][1], [s.close() for s in socket.socketpair()])
            for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    try: socket.socket(family, kind).close()
                    except PermissionError as error: print(family, kind, error)
                    except OSError: pass
            print(numpy.linalg.inv(numpy.eye(200) * 2)[0, 0], pandas.Series([1, 2]).sum())
            matplotlib.pyplot.plot([1, 2]); matplotlib.pyplot.savefig("plot.png")
        """),
        timeout_ms=30_000,
    )
    assert result["stdout"].splitlines() == [
        "b'child\\n'",
        "0",
        *["[1, 2]"] * 3,
        "[3]",
        "b'hi\\n'",
        "['lo', 'eth0'] ['eth0', 'lo']",
        "80 [None, None]",
        "0.5 3",
    ], result["stderr"]
    assert [file["path"] for file in result["files"]] == ["plot.png"]


def test_the_filter_can_be_assembled_for_both_machines() -> None:
    """The filter can be assembled for x86-64 and ARM, and no system call number occurs twice."""
    for column, machine in enumerate(("x86_64", "aarch64")):
        program = seccomp._program(machine)
        assert 50 < len(program) < 4096
        numbers: list[Any] = [
            entry[column] for entry in seccomp.REFUSED.values() if entry[column] is not None
        ]
        assert len(numbers) == len(set(numbers))
