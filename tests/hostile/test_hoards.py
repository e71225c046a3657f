"""One container hoards what Linux counts by uid or for the machine, and another container needs it."""

from collections.abc import Iterator
from textwrap import dedent
from typing import Final

import pytest

from kernel_image import contract
from tests.conftest import Run
from tests.support import waiting
from tests.support.process import Service
from tests.support.session import Session, new_session

TOOLS: Final = """
import ctypes, fcntl, os, signal, socket, struct, threading, time
libc, held = ctypes.CDLL(None, use_errno=True), []

def call(function, *arguments):
    found = function(*arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found

def watch():
    held.append(call(libc.inotify_init1, 0))

def send_signal():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
    thread = ctypes.c_ulong(threading.get_ident())
    if code := libc.pthread_sigqueue(thread, int(signal.SIGRTMIN), ctypes.c_void_p(0)):
        raise OSError(code, os.strerror(code))

def make_timer():
    event, timer = struct.pack("qii48x", 0, 0, 1), ctypes.c_void_p()  # SIGEV_NONE
    call(libc.timer_create, 1, event, ctypes.byref(timer))

def make_queue():
    name = f"/queue{len(held)}".encode()
    held.append(call(libc.mq_open, name, os.O_CREAT | os.O_RDWR, 0o600, struct.pack("4q32x", 0, 10, 8192, 0)))

def make_pipe():
    reader, writer = os.pipe()
    assert fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) == 65536, "a new pipe is smaller than usual"
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    held.append((reader, writer))

def make_semaphore():
    call(libc.semget, 0, 1, 0o1600)

def lock_memory():
    held.append(call(libc.shmget, 0, 1 << 20, 0o1600))
    call(libc.shmctl, held[-1], 11, None)  # SHM_LOCK

def start_process():
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    held.append(pid)

def open_terminal():
    held.append(os.openpty())
"""

HOARD: Final = """
taken, ended = 0, "nothing"
try:
    while taken < {most}:
        {name}()
        taken += 1
except (OSError, AssertionError) as error:
    ended = repr(error)
print(taken, ended)
"""

HOARDS: Final = {
    "inotify instances": ("watch", 10),
    "pending signals": ("send_signal", 1000),
    "timers": ("make_timer", 1000),
    "message queues": ("make_queue", 3),
    "pipe buffers": ("make_pipe", 20),
    "semaphores": ("make_semaphore", 100),
    "locked memory": ("lock_memory", 1),
    "processes": ("start_process", 30),
}
"""The kinds of hoards: a function of `TOOLS`, and the least number that a container can have."""


@pytest.fixture
def hoarder(service: Service) -> Iterator[Session]:
    """Open a session whose code hoards."""
    with new_session(service) as opened:
        yield opened


def inside(session: Session, code: str) -> str:
    """Run code in a session after `TOOLS`, and return what it prints."""
    return session.printed(TOOLS + dedent(code))


@pytest.mark.parametrize("hoard", HOARDS)
def test_a_hoard_is_no_other_containers_want(hoard: str, hoarder: Session, run: Run) -> None:
    """A container takes all that it can get and keeps it. Another one still gets as much."""
    name, least = HOARDS[hoard]
    taken, _, ended = inside(hoarder, HOARD.format(name=name, most=200_000)).partition(" ")
    assert int(taken) >= least, ended
    assert ended != "nothing", "the hoard has no limit of its own"
    wanted = run(TOOLS + HOARD.format(name=name, most=least))
    assert wanted["stdout"] == f"{least} nothing\n", wanted


def test_too_many_terminals_end_the_code(hoarder: Session) -> None:
    """All containers share one number of pseudo-terminals. Beyond its part, a container's code is killed."""
    few = inside(hoarder, HOARD.format(name="open_terminal", most=contract.TERMINALS) + "time.sleep(0.3)")
    assert few == f"{contract.TERMINALS} nothing"
    killed = hoarder.run("while True: held.append(os.openpty())")
    assert (killed["exit_code"], killed["state"]) == (137, "restarted"), killed
    assert f"killed: more than {contract.TERMINALS} pseudo-terminals (" in killed["stderr"]
    assert hoarder.printed("import os; print(len(os.listdir('/dev/pts')))") == "1"


def test_terminals_of_a_hoarder_are_no_other_containers_want(hoarder: Session, service: Service) -> None:
    """Another container opens terminals all the time, and none fails."""
    use = """
        many = 0
        while not os.path.exists("enough"):
            for number in os.openpty():
                os.close(number)
            many += 1
        print(many)
    """
    cell_id = hoarder.detach(TOOLS + dedent(use))
    for _ in range(3):
        hoard = service.api.run("import os\nheld = []\nwhile True: held.append(os.openpty())")
        assert "pseudo-terminals" in hoard["stderr"], hoard
    hoarder.put("enough", b"")
    assert waiting.soon(lambda: hoarder.cell(cell_id)["state"] == "done")
    result = hoarder.cell(cell_id)["result"]
    assert (result["exit_code"], int(result["stdout"]) > 0) == (0, True), result


def test_loopback_connections_are_not_tracked(run: Run) -> None:
    """An entry for each connection would take the machine's memory, outside the container's limit."""
    result = run(
        dedent("""
            import pathlib, socket
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for number in range(20_000):
                try: sender.sendto(b"x", (f"127.1.{number >> 8}.{number & 255}", 9))
                except ConnectionRefusedError: pass
            print(pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())
            server = socket.create_server(("127.0.0.1", 0))
            client = socket.create_connection(server.getsockname())
            client.send(b"works")
            print(server.accept()[0].recv(5))
        """)
    )
    count, works = result["stdout"].split()
    assert int(count) < 100, result
    assert works == "b'works'"


SOCKET_BUFFERS: Final = {
    "TCP": """
        server = socket.create_server(("127.0.0.1", 0))
        while True:
            held.append(socket.create_connection(server.getsockname()))
            held.append(server.accept()[0])
            for channel in held[-2:]:
                channel.setblocking(False)
                try:
                    while True: channel.send(bytes(65536))
                except BlockingIOError: pass
    """,
    "UDP": """
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30)
            held[-1].bind(("127.0.0.1", 0))
            for _ in range(1000): sender.sendto(bytes(100), held[-1].getsockname())
    """,
}


@pytest.mark.parametrize("protocol", SOCKET_BUFFERS)
def test_data_in_sockets_is_limited(protocol: str, hoarder: Session) -> None:
    """All sockets of a machine share its memory for buffers, which cgroups of version 1 do not count."""
    ordinary = """
        for _ in range(20):
            held += socket.socketpair(socket.AF_UNIX), socket.socket(socket.AF_INET)
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        receiver = server.accept()[0]
        for _ in range(1000):
            client.sendall(bytes(100_000))
            left = 100_000
            while left: left -= len(receiver.recv(left))
        print("passed")
    """
    assert inside(hoarder, ordinary) == "passed"
    killed = hoarder.run(TOOLS + dedent(SOCKET_BUFFERS[protocol]), timeout_ms=30_000)
    assert (killed["exit_code"], killed["state"]) == (137, "restarted"), killed
    assert f"killed: more than {contract.SOCKET_MIB} MiB in the buffers of sockets (" in killed["stderr"]
    assert inside(hoarder, ordinary) == "passed"
