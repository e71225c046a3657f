"""Tests of isolation: code in a real kernel tries what it must not be able to do."""

import errno
import hashlib
import json
import re
import socket
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from kernel_image import contract
from tests.conftest import Run, StartService, docker_only
from tests.support.engine import Engine
from tests.support.network import link_local, listeners, own_addresses
from tests.support.process import Service

INSIDE = Path(__file__).parents[1] / "inside"
MEGABYTE = 1024 * 1024
PEER_SERVES = "import http.server as h; h.HTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
PLAIN_GETS_OUT = """
import socket
for line in open("/proc/net/route"):
    words = line.split()
    if words[1] == "00000000":
        where = (socket.inet_ntoa(bytes.fromhex(words[2])[::-1]), PORT)
        socket.create_connection(where, timeout=3).close()
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"plain", where)
"""


def found_inside(service: Service, probe: str, **fields: Any) -> Any:
    """Run a file of `tests/inside` in a kernel and return what it printed."""
    result = service.api.run((INSIDE / probe).read_text(), **fields)
    assert result["exit_code"] == 0, result["stderr"][-2000:] or result["error"]
    return json.loads(result["stdout"])


@pytest.fixture(scope="module")
def facts(default_service: Service) -> dict[str, Any]:
    """Run `tests/inside/confinement.py` on a service with default settings and return what it found."""
    found: dict[str, Any] = found_inside(default_service, "confinement.py")
    return found


# Privileges --------------------------------------------------------------------------------------


def test_the_code_has_no_privilege_and_cannot_gain_any(facts: dict[str, Any]) -> None:
    """The code has no capability in any set, no_new_privs, a system call filter and an ordinary user."""
    status = facts["status"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    (user_id,) = set(status["Uid"].split())
    assert int(user_id) in contract.USER_IDS
    assert status["Gid"].split() == [user_id] * 4
    assert status["Groups"] == ""


def test_forbidden_actions_are_refused(facts: dict[str, Any]) -> None:
    """System folders, PID 1, the parent, mounts, namespaces and devices are out of reach."""
    allowed = {name for name, ended in facts["refused"].items() if ended == "done"}
    assert allowed == set()
    assert facts["refused"]["signal PID 1"] == "PermissionError"
    assert facts["refused"]["signal the parent"] == "PermissionError"
    assert len(facts["refused"]) > 20


@docker_only("volumes in memory have a size, and neither mount options nor a limit of files")
def test_only_four_folders_can_be_written_and_each_has_a_limit(facts: dict[str, Any]) -> None:
    """The root is read-only. Workspace, /tmp, home and /dev/shm are small file systems."""
    assert "ro" in facts["root_options"]
    assert len(facts["spaces"]) == 4
    for folder, space in facts["spaces"].items():
        assert space["write"] == "done", folder
        assert {"rw", "nosuid", "nodev"} <= set(space["options"]), folder
        assert 0 < space["bytes"] <= 128 * MEGABYTE, folder
        assert 0 < space["inodes"] < 1_000_000, folder
    assert facts["spaces"]["/workspace"]["bytes"] == 128 * MEGABYTE
    assert facts["spaces"]["/tmp"]["bytes"] == 64 * MEGABYTE


def test_a_process_has_limits_it_cannot_raise(facts: dict[str, Any]) -> None:
    """Core files are off, and the number of descriptors and the size of a file are bounded."""
    hard = facts["hard_limits"]
    assert hard["core"] == 0
    assert 0 < hard["descriptors"] <= 65_536
    assert 0 < hard["file_size"] <= 1024 * MEGABYTE


def test_nothing_of_the_host_is_in_sight(facts: dict[str, Any]) -> None:
    """The container has no engine socket and only harmless devices."""
    assert facts["docker_sockets"] == []
    harmless = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr"}
    harmless |= {"stdin", "stdout", "tty", "urandom", "zero", "console"}
    harmless |= {"termination-log"}  # in pods only, and closed to the user
    assert set(facts["devices"]) <= harmless


def test_no_secret_is_in_sight(facts: dict[str, Any], default_service: Service) -> None:
    """No readable environment or command line has a token, by name or by value."""
    names = [name for name in facts["environment"] if re.search("(?i)TOKEN|SECRET|KEY|PASS", name)]
    assert names == []
    assert contract.TOKEN_DIGEST_VARIABLE not in facts["visible"]
    assert facts["supervisor_sockets"] == []
    assert default_service.instance_id not in facts["visible"]


def test_no_token_is_in_the_memory_of_the_code(service: Service) -> None:
    """A kernel's memory does not contain the supervisor's token, not even in pages from before the fork."""
    secrets = []
    container_ids = service.settle(at_target=False)
    found_secrets = service.container_secrets()
    for container_id in container_ids:
        token, _ = found_secrets[container_id]
        assert len(token) >= 32
        digest = hashlib.sha256(token.encode()).hexdigest()
        assert (
            f"{contract.TOKEN_DIGEST_VARIABLE}={digest}"
            in service.engine.inspect(container_id)["Config"]["Env"]
        )
        assert token not in json.dumps(service.engine.inspect(container_id))
        secrets.append({"head": token[:8], "length": len(token), "sha256": digest})
    assert len(secrets) >= 2
    planted, *found = found_inside(service, "memory.py", stdin=json.dumps(secrets), timeout_ms=30_000)
    assert planted > 0, "the search itself works"
    assert found == [0] * len(secrets)


@docker_only("it is Docker's account; test_a_pod_has_every_limit is the cluster's")
def test_a_container_is_made_with_every_restriction(default_service: Service) -> None:
    """`docker inspect` of a kernel's container shows each limit of the design."""
    container_id = min(default_service.settle(at_target=False))
    inspected = default_service.engine.inspect(container_id)
    host = inspected["HostConfig"]
    assert host["Privileged"] is False
    assert host["ReadonlyRootfs"] is True
    assert [name.upper() for name in host["CapDrop"]] == ["ALL"]
    added = {name.removeprefix("CAP_") for name in host["CapAdd"] or []}
    assert added <= {"NET_ADMIN", "SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_OVERRIDE"}
    options = host["SecurityOpt"]
    assert any(option.startswith("no-new-privileges") for option in options)
    assert not any("unconfined" in option or option.endswith("false") for option in options)
    assert not host["Binds"] and not host["Devices"] and not host.get("VolumesFrom")
    assert not [mount for mount in inspected["Mounts"] if mount["Type"] != "tmpfs"]
    assert host["NetworkMode"] not in ("host", "none", "default", "bridge")
    assert (host["PidMode"], host["UTSMode"], host["IpcMode"]) == ("", "", "private")
    assert host["PidsLimit"] == 256
    assert host["Memory"] == host["MemorySwap"] > 128 * MEGABYTE
    assert host["NanoCpus"] == 10**9 or host["CpuQuota"] == host["CpuPeriod"] > 0
    assert host["LogConfig"]["Type"] == "none"
    published = [b["HostIp"] for bindings in inspected["NetworkSettings"]["Ports"].values() for b in bindings]
    has_bridge = default_service.engine.bridge(host["NetworkMode"]) in dict(socket.if_nameindex()).values()
    assert published == ([] if has_bridge else ["127.0.0.1"] * len(contract.PORTS))
    labels = inspected["Config"]["Labels"]
    assert labels[contract.INSTANCE_LABEL] == default_service.instance_id
    assert labels[contract.ROLE_LABEL] == contract.ROLE


@docker_only("it is about ports on a Docker engine's machine")
def test_ports_are_published_where_kernel_address_says(start_service: StartService) -> None:
    """With `KERNEL_ADDRESS`, the service does not connect to the containers' own addresses."""
    service = start_service(KERNEL_ADDRESS="127.0.0.1", POOL_SIZE=1)
    inspected = service.engine.inspect(min(service.settle()))
    published = [b["HostIp"] for bindings in inspected["NetworkSettings"]["Ports"].values() for b in bindings]
    assert published == ["127.0.0.1"] * len(contract.PORTS)
    assert service.api.run("1")["stdout"] == "1\n"


# Network -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reached(service: Service, engine: Engine) -> dict[str, dict[str, Any]]:
    """Run `tests/inside/reach.py` and return how each attempt ended, by name."""
    network, gateway, _ = engine.network(min(service.settle(at_target=False)))
    addresses = sorted(own_addresses() | {gateway})
    with listeners() as host, engine.peer(PEER_SERVES, network) as peer:
        for address in addresses:
            socket.create_connection((address, host.port), timeout=3).close()
        for _ in range(50):
            try:
                socket.create_connection((peer.address, 8080), timeout=3).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError("the second container does not answer, so the test proves nothing")
        engine.plain_python(PLAIN_GETS_OUT.replace("PORT", str(host.port)))
        _wait_for(lambda: any("b'plain'" in line for line in host.received))
        assert any("b'plain'" in line for line in host.received), "a plain container has network access"
        host.received.clear()

        ipv6 = link_local(engine.bridge(network))
        targets = {
            "tcp": [[address, host.port] for address in addresses] + [[peer.address, 8080]],
            "udp": [[address, host.port] for address in addresses],
            "ipv6": [[ipv6, host.port]] if ipv6 else [],
            "supervisor": [
                [name, contract.SUPERVISOR_PORT] for name in ("127.0.0.1", "localhost", "0.0.0.0")
            ],
        }
        attempts = found_inside(service, "reach.py", stdin=json.dumps(targets), timeout_ms=30_000)
        time.sleep(0.3)
        assert host.received == [], "a connection left a kernel"
    assert len(attempts) >= 2 * len(addresses) + 10
    return {attempt["name"]: attempt for attempt in attempts}


def _wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize(
    "kind",
    [
        "tcp ",
        "udp ",
        "ping ",
        "resolver tcp",
        "resolver udp",
        "supervisor ",
        "look up",
        "fetch",
        "raw ",
        "packets",
    ],
)
def test_nothing_gets_out_and_everything_fails_at_once(reached: dict[str, dict[str, Any]], kind: str) -> None:
    """Attempts to reach the host, other containers, resolvers and the supervisor fail within a second."""
    attempts = [attempt for name, attempt in reached.items() if name.startswith(kind)]
    assert attempts
    for attempt in attempts:
        assert not attempt["ended"].startswith("reached"), attempt
        assert attempt["ended"] != "TimeoutError", attempt


def test_ipv6_is_closed_too(reached: dict[str, dict[str, Any]]) -> None:
    """The host's link-local address and a multicast cannot be reached."""
    attempts = [attempt for name, attempt in reached.items() if name.startswith("ipv6")]
    assert attempts
    for attempt in attempts:
        assert not attempt["ended"].startswith("reached"), attempt
        assert attempt["ended"] != "TimeoutError", attempt


def test_raw_sockets_are_refused(reached: dict[str, dict[str, Any]]) -> None:
    """A raw socket needs a privilege that the code lacks. The closed network is not the only reason."""
    for name in ("raw IP", "raw TCP", "packets"):
        assert reached[name]["ended"] == "PermissionError"


def test_the_supervisor_answers_outside_only_with_its_token(service: Service) -> None:
    """The supervisor's port is closed from inside. From the host it refuses requests without the token."""
    container_id = min(service.settle(at_target=False))
    for token in (None, "Bearer wrong", "Bearer "):
        connection = service.engine.supervisor(container_id)
        headers = {} if token is None else {"Authorization": token}
        connection.request("GET", "/", headers=headers)
        assert connection.getresponse().status in (401, 403, 404)
        connection.close()


def test_the_users_own_servers_work(run: Run) -> None:
    """Code can serve and fetch over loopback, by TCP and by UDP."""
    result = run(
        dedent("""
            import http.server, socket, threading, urllib.request
            class Hello(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200); self.end_headers(); self.wfile.write(b"hello")
                def log_message(self, *arguments): pass
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            print(urllib.request.urlopen(f"http://localhost:{server.server_port}/").read())
            a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0))
            b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            b.sendto(b"datagram", a.getsockname())
            print(a.recv(100))
        """)
    )
    assert result["stdout"] == "b'hello'\nb'datagram'\n", result["stderr"]


# Resources ---------------------------------------------------------------------------------------


def test_a_full_disk_raises_an_error_and_the_kernel_lives(default_service: Service) -> None:
    """With default limits, filling all four folders at once fails with ENOSPC in each."""
    ended = found_inside(default_service, "fill.py")
    assert len(ended) == 4
    for folder, (code, taken) in ended.items():
        assert code == errno.ENOSPC, (folder, errno.errorcode.get(code))
        assert MEGABYTE <= taken <= 128 * MEGABYTE


def test_the_size_of_the_folders_is_a_setting(tight_service: Service) -> None:
    """`WORKSPACE_SIZE_MB` and `TMP_SIZE_MB` limit how much can be written."""
    ended = found_inside(tight_service, "fill.py")
    assert ended["/workspace"][0] == ended["/tmp"][0] == errno.ENOSPC
    assert 15 * MEGABYTE <= ended["/workspace"][1] <= 16 * MEGABYTE
    assert 7 * MEGABYTE <= ended["/tmp"][1] <= 8 * MEGABYTE


@docker_only("a pod has no such limit: test_too_many_processes_end_the_call")
def test_threads_and_processes_are_bounded(tight_service: Service) -> None:
    """`PIDS_LIMIT` counts processes and threads. The code gets an exception that it can handle."""
    counts = found_inside(tight_service, "bounds.py")
    assert 5 <= counts["threads"] < 64
    assert 5 <= counts["processes"] < 64


def test_a_fork_bomb_ends_with_its_timeout(service: Service) -> None:
    """A fork bomb reaches the limit and all its processes are killed. The next call works as usual."""
    before = service.settle(at_target=False)
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    result = service.api.run(bomb, timeout_ms=1500)
    assert result["timed_out"] is True or "killed: more than" in result["stderr"]
    assert service.api.run("print('next')")["stdout"] == "next\n"
    assert len(before & service.settle(at_target=False)) < len(before), "the container of the bomb is gone"


def test_executions_see_nothing_of_each_other(run: Run) -> None:
    """An execution finds no files, shared memory or processes of an earlier one."""
    leave = run(
        dedent("""
            import pathlib, subprocess
            for folder in ("/workspace", "/tmp", str(pathlib.Path.home()), "/dev/shm"):
                pathlib.Path(folder, "mark-of-the-first").write_text("x")
            subprocess.Popen(["sleep", "1234567"], start_new_session=True)
        """)
    )
    fields = run(
        dedent("""
            import pathlib
            folders = ("/workspace", "/tmp", str(pathlib.Path.home()), "/dev/shm")
            marks = [str(p) for f in folders for p in pathlib.Path(f).rglob("*first*")]
            seen = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
            print(marks, any(b"1234567" in line for line in seen))
        """)
    )
    assert fields["stdout"] == "[] False\n"
    assert [file["path"] for file in leave["files"]] == ["mark-of-the-first"]
