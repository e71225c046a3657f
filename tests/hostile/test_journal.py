"""Floods of the pipe on which the kernel reports events to its supervisor."""

import pytest

from tests.hostile.conftest import Canary
from tests.support.process import Service

FIND_PIPE = """
import os, stat
own = {os.fstat(fd).st_ino for fd in (1, 2)}
pipes = [int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')]
def writable(fd):
    lines = dict(line.split(':', 1) for line in open(f'/proc/self/fdinfo/{fd}'))
    return int(lines['flags'], 8) & os.O_ACCMODE == os.O_WRONLY
pipes = [fd for fd in pipes if stat.S_ISFIFO(os.fstat(fd).st_mode) and os.fstat(fd).st_ino not in own]
events = [fd for fd in pipes if writable(fd)]
def supervisor_cpu():
    fields = open('/proc/1/stat').read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
began = supervisor_cpu()
"""
END = "\nprint(len(events), supervisor_cpu() - began)"


@pytest.mark.parametrize(
    ("flood", "megabytes"),
    [
        pytest.param("b'x' * (1 << 20)", 300, id="no-newline"),
        pytest.param("b'\\n' * (1 << 20)", 50, id="empty-lines"),
        pytest.param("b'{}\\n' * (1 << 18)", 20, id="short-lines"),
        pytest.param("(b'x' * 65535 + b'\\n') * 16", 300, id="long-lines"),
    ],
)
def test_flood_of_the_event_pipe_costs_linear_time(
    target: Service, canary: Canary, flood: str, megabytes: int
) -> None:
    """The supervisor looks at each byte once, keeps a bounded part, and the cell ends as usual."""
    code = (
        FIND_PIPE
        + f"data = {flood}\nfor fd in events:\n  for _ in range({megabytes}):\n    os.write(fd, data)"
        + "\nfor fd in events: os.write(fd, b'\\n')"
        + END
    )
    result = target.api.run(code, timeout_ms=30_000)
    assert result["exit_code"] == 0, result
    pipes, cpu_sec = result["stdout"].split()
    assert int(pipes) >= 1
    assert float(cpu_sec) < 6, "quadratic handling takes minutes"
