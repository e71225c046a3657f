"""Tests of what a program leaves in a container that is used again, apart from files and processes.

Each row has a program that leaves something, and one that looks for it.
"""

from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any, Final

import pytest

from tests.conftest import LIGHT, docker_only, serving
from tests.support.process import Service

pytestmark = pytest.mark.timeout(300)

IMPORTS: Final = """
import array, ctypes, fcntl, os, socket, struct, time
FOLDERS = ("/workspace", "/tmp", os.path.expanduser("~"), "/dev/shm")
libc = ctypes.CDLL(None, use_errno=True)

def below(*tops):
    for top in tops:
        for path, folders, files in os.walk(top):
            skipped = (*FOLDERS, f"/proc/{os.getpid()}", f"{path}/fdinfo")
            folders[:] = [name for name in folders if f"{path}/{name}" not in skipped]
            hidden = [f"ns/{name}" for name in os.listdir("/proc/self/ns") if "ns" in folders]
            yield from (f"{path}/{name}" for name in (*folders, *files, *hidden))

def try_all(action, *things):
    done = 0
    for thing in things:
        try: action(thing); done += 1
        except OSError: pass
    return done

def times(path):
    status = os.lstat(path)
    return path, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns

def flags(path):
    descriptor = os.open(path, os.O_RDONLY)
    try: return fcntl.ioctl(descriptor, 0x80086601, bytes(8)).hex()
    finally: os.close(descriptor)

def changeable(path):
    status = os.lstat(path)
    return status.st_mode & 2 or status.st_uid == os.getuid()
"""

FLAGS = """
for folder in FOLDERS:
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.ioctl(descriptor, 0x40086602, struct.pack("=q", 0xC0))  # no dump, no access time
    print(flags(folder))
"""
SEE_FLAGS = """
for folder in FOLDERS:
    open(f"{folder}/new", "w").close()
    print(flags(folder), flags(f"{folder}/new"))
    os.unlink(f"{folder}/new")
"""
ATTRIBUTES = """
entries = [(1, 7, -1), (2, 7, 4242), (4, 7, -1), (16, 7, -1), (32, 7, -1)]
acl = struct.pack("=I", 2) + b"".join(struct.pack("=HHi", *entry) for entry in entries)
for folder in FOLDERS:
    print(try_all(lambda name: os.setxattr(folder, name, b"x" * 1000), "user.left"))
    print(try_all(lambda name: os.setxattr(folder, f"system.posix_acl_{name}", acl), "default", "access"))
"""
SEE_ATTRIBUTES = """
for folder in FOLDERS:
    open(f"{folder}/new", "w").close()
    print(*((oct(os.stat(path).st_mode), os.listxattr(path)) for path in (folder, f"{folder}/new")))
    os.unlink(f"{folder}/new")
for path in below(os.path.expanduser("~")):
    print(oct(os.stat(path).st_mode), os.listxattr(path))
"""
TOUCH = """
print(try_all(lambda path: os.utime(path, follow_symlinks=False), *below({tops})) > {least})
print(try_all(lambda path: os.utime(path, ns=(4 * 10**18,) * 2, follow_symlinks=False), *below({tops})) >= 0)
"""
SEE_TIMES = "print(*sorted(times(path) for path in below({tops}) if changeable(path)), sep='\\n')"
SEE_FOLDER_TIMES = """for folder in FOLDERS:
    # The kernel writes the file of this program into /tmp, so that has the present time.
    print(abs(os.stat(folder).st_mtime - time.time()) < 100 if folder == "/tmp" else times(folder))
    """

CLEARED = {
    "flags of the folders": (FLAGS, SEE_FLAGS),
    "times of the folders in the future": (
        "for folder in FOLDERS: os.utime(folder, ns=(4 * 10**18, 4 * 10**18))",
        SEE_FOLDER_TIMES + "print(os.stat(folder).st_atime < 3 * 10**9)",
    ),
    "times of the folders in the past": (
        "for folder in FOLDERS: os.utime(folder, ns=(1, 1))",
        SEE_FOLDER_TIMES + "print(os.stat(folder).st_atime < 10**9)",
    ),
    "attributes and access control lists of the folders": (ATTRIBUTES, SEE_ATTRIBUTES),
    "times of the home's first files": (
        "print(try_all(lambda path: os.utime(path, ns=(1, 1)), *below(os.path.expanduser('~'))))",
        "print(*map(times, below(os.path.expanduser('~'))))",
    ),
    "times of devices, links and queues": (
        TOUCH.format(tops="'/dev'", least=5),
        SEE_TIMES.format(tops="'/dev'"),
    ),
    "times in /proc": (TOUCH.format(tops="'/proc'", least=20), SEE_TIMES.format(tops="'/proc'")),
    "a lock, flags and an owner of standard input": (
        """
        fcntl.flock(0, fcntl.LOCK_EX)
        fcntl.fcntl(0, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, 10, 34)
        """,
        """
        print(fcntl.fcntl(0, fcntl.F_GETFL), fcntl.fcntl(0, fcntl.F_GETOWN), fcntl.fcntl(0, 11))
        fcntl.flock(os.open("/dev/null", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        """,
    ),
}
"""Left behind and cleared: the container is used again."""

CONNECTIONS = {
    "closed by either side": """
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for port in range(6000, 6100, 2):
                try: listener = socket.create_server((address, port), family=family)
                except OSError: break  # no IPv6
                client = socket.socket(family)
                client.bind((address, port + 1))
                client.connect((address, port))
                server, _ = listener.accept()
                (client if port % 4 else server).close()
                time.sleep(0.001)
                server.close(), client.close(), listener.close()
    """,
    "cut": """
        for port in range(6000, 6040, 4):
            listener = socket.create_server(("127.0.0.1", port))
            held = [socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.1", port + 1))]
            server, _ = listener.accept()
            held.append(server)
            match port % 5:
                case 0: held[0].send(b"x" * 10000)
                case 1: held[0].shutdown(socket.SHUT_WR)
                case 2: server.shutdown(socket.SHUT_WR); held[0].send(b"unread")
                case 3:
                    held[0].setblocking(False)
                    try_all(lambda _: held[0].send(b"x" * 100_000), *range(1000))
            globals().setdefault("all", []).append((listener, held))
    """,
}
SEE_PORTS = """
for port in range(6000, 6100):
    socket.socket().bind(("127.0.0.1", port))
print("bound")
"""
HOLD_EACH_OTHER = """
for port in range(6000, 6100):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener = socket.create_server(("127.0.0.1", port))
    for end in (one, other):
        socket.send_fds(end, [b"x"], [listener.fileno(), one.fileno(), other.fileno()])
"""
SYSTEM_V = {
    "shared memory": ("libc.shmget(0, 1, 0o600)", "libc.shmctl({}, 0, None)"),
    "a semaphore": ("libc.semget(0, 1, 0o600)", "libc.semctl({}, 0, 0)"),
    "a message queue": ("libc.msgget(0, 0o600)", "libc.msgctl({}, 0, None)"),
}
FLOW_LABEL = """
def take_label(label):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as owner:
        request = struct.pack("!16sI", socket.inet_pton(socket.AF_INET6, "::1"), label)
        request += struct.pack("=BBHHHI", 0, 1, 1 | 2, 60, 60, 0)
        try: owner.setsockopt(socket.IPPROTO_IPV6, 32, request)
        except OSError as error: return error.strerror
        return "taken"
print(take_label(0x12345), take_label(0x12346))
"""
NOT_CLEARED = {
    **{
        f"{kind} that is gone again": (remove.format(create), f"print({create})")
        for kind, (create, remove) in SYSTEM_V.items()
    },
    **{
        f"{kind} sixty-four times": (f"for _ in range(64): {remove.format(create)}", f"print({create})")
        for kind, (create, remove) in SYSTEM_V.items()
    },
    "IPv6 flow labels": (FLOW_LABEL, FLOW_LABEL),
}
"""Left behind and not to be cleared: the container is destroyed."""


@pytest.fixture(scope="module")
def reusing(open_service: Callable[..., Service]) -> Iterator[Service]:
    """A service that has one container and uses it again."""
    yield from serving(
        open_service,
        **LIGHT,
        CONTAINER_REUSE="tenant",
        POOL_SIZE=1,
        MAX_CONTAINERS=1,
        CONTAINER_MAX_USES=1000,
    )


def output(service: Service, program: str) -> str:
    """Run a program that must succeed, and return its output."""
    result: dict[str, Any] = service.api.run(IMPORTS + dedent(program))
    assert result["exit_code"] == 0, result["stderr"]
    return str(result["stdout"])


@pytest.mark.parametrize(("leave", "look"), CLEARED.values(), ids=CLEARED.keys())
def test_the_next_program_finds_none_of_it(reusing: Service, leave: str, look: str) -> None:
    """The container is used again, and is as before."""
    output(reusing, "pass")
    container = reusing.settle()
    first = output(reusing, look)
    output(reusing, leave)
    assert output(reusing, look) == first
    assert reusing.settle() == container, reusing.log_tail()


@docker_only("a pod may not set the sysctl that prevents the state TIME_WAIT, so the pod is destroyed")
@pytest.mark.parametrize("leave", CONNECTIONS.values(), ids=CONNECTIONS.keys())
def test_closed_connections_keep_no_port(reusing: Service, leave: str) -> None:
    """Connections end in every way. The next program, in the same container, can bind all of their ports."""
    output(reusing, "pass")
    container = reusing.settle()
    output(reusing, leave)
    assert output(reusing, SEE_PORTS) == "bound\n"
    assert reusing.settle() == container, reusing.log_tail()


def test_sockets_that_hold_each_other_keep_no_port(reusing: Service) -> None:
    """Sockets in messages that nobody received live on until the Linux kernel collects them.

    The next program can bind their ports, in this container or in a new one.
    """
    output(reusing, HOLD_EACH_OTHER)
    assert output(reusing, SEE_PORTS) == "bound\n"


@pytest.mark.parametrize(("leave", "look"), NOT_CLEARED.values(), ids=NOT_CLEARED.keys())
def test_what_cannot_be_cleared_costs_the_container(reusing: Service, leave: str, look: str) -> None:
    """The next program runs in a new container, and finds none of it."""
    for _ in range(2):
        # Looking leaves something too, so the second time is in a new container.
        first = output(reusing, look)
        container = reusing.settle()
    output(reusing, leave)
    assert not container & reusing.settle()
    assert output(reusing, look) == first
