"""Closed connections in a container whose network namespace may not prevent the state TIME_WAIT, as in a pod.

The scrub compares what `internet_sockets` returns. Here it is run in a plain container, with real sockets.
"""

import ast
import socket
from typing import Final

from kernel_image import contract
from tests.support.engine import Engine
from tests.support.waiting import soon

TIME_WAIT: Final = 6
LISTENING: Final = 10
OTHER_PORT: Final = 6000
REPORT_PORT: Final = 6001
INNER_PORT: Final = contract.SUPERVISOR_PORT + contract.INTERNAL_PORT_OFFSET
IMPORTS: Final = """
import socket, sys
sys.path.insert(0, "/opt/code-interpreter")
from kernel_image.supervisor.scrub.sockets import internet_sockets
"""
CLOSE_INSIDE: Final = f"""
def close_here(family, port, address, client_address):
    with socket.socket(family) as listener, socket.socket(family) as client:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port))
        listener.listen()
        client.bind((client_address, 0))
        client.connect((address, port))
        server, _ = listener.accept()
        server.close()
        client.recv(1)
own = socket.gethostbyname(socket.gethostname())
close_here(socket.AF_INET, {OTHER_PORT}, "127.0.0.1", "127.0.0.1")
close_here(socket.AF_INET, {contract.SUPERVISOR_PORT}, "127.0.0.2", "127.0.0.3")
close_here(socket.AF_INET, {contract.SHELL_PORT}, own, own)
close_here(socket.AF_INET, {contract.IOPUB_PORT}, own, "127.0.0.1")
close_here(socket.AF_INET6, {INNER_PORT}, "::ffff:127.0.0.1", "::ffff:127.0.0.1")
print(internet_sockets())
"""
CLOSE_OUTSIDE: Final = f"""
with socket.create_server(("0.0.0.0", {contract.SHELL_PORT})) as listener:
    with socket.create_server(("0.0.0.0", {REPORT_PORT})) as report:
        listener.accept()[0].close()
        asking, _ = report.accept()
        with open("/proc/net/tcp") as table:
            seen = [line.split()[1:4:2] for line in table.readlines()[1:]]
        asking.sendall(repr((internet_sockets(), seen)).encode())
        asking.close()
"""


def test_closed_connections_of_user_code_are_seen_on_every_port(engine: Engine) -> None:
    """The container is then destroyed: such a connection would keep its port from the next program."""
    printed = engine.plain_python(IMPORTS + CLOSE_INSIDE)
    ports = (OTHER_PORT, contract.SUPERVISOR_PORT, contract.SHELL_PORT, contract.IOPUB_PORT, INNER_PORT)
    assert ast.literal_eval(printed) == sorted(("tcp", TIME_WAIT, port) for port in ports)


def test_closed_connections_of_the_service_are_left_out(engine: Engine) -> None:
    """Otherwise no pod could be used again: its own ports decide, and the other end is outside."""
    with engine.peer(IMPORTS + CLOSE_OUTSIDE, "bridge") as peer:
        assert soon(lambda: read(peer.address, contract.SHELL_PORT) == b"")
        found, seen = ast.literal_eval(read(peer.address, REPORT_PORT).decode())
    assert any(port.endswith(f":{contract.SHELL_PORT:04X}") and state == "06" for port, state in seen)
    listening = {("tcp", LISTENING, contract.SHELL_PORT), ("tcp", LISTENING, REPORT_PORT)}
    assert {one for one in found if one[1] in (TIME_WAIT, LISTENING)} == listening


def read(address: str, port: int) -> bytes:
    """Return all that a server sends; a text if it does not listen yet."""
    try:
        with socket.create_connection((address, port), timeout=10) as client, client.makefile("rb") as data:
            return data.read()
    except ConnectionRefusedError:
        return b"refused"
