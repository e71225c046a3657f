"""The service bounds all that callers and user code can make it keep, as docs/security.md lists it."""

import re
from contextlib import nullcontext
from typing import Final

import pytest

from tests.hostile.bounds import Attack, executions, gateway, history, mcp, requests
from tests.hostile.bounds.watch import unharmed
from tests.mcp.support import ACCEPT
from tests.support.process import ROOT, Service

ATTACKS: Final[dict[str, Attack]] = (
    requests.ATTACKS | mcp.ATTACKS | gateway.ATTACKS | executions.ATTACKS | history.ATTACKS
)
"""An attack for each row of the table of bounds, with those of `history.PREPARED`."""

pytestmark = pytest.mark.usefixtures("canary")


@pytest.fixture(scope="module")
def warm(target: Service) -> Service:
    """Return the service that is attacked, after its first requests.

    It has imported everything, and has the memory for one large answer, which Python does not give back.
    """
    target.api.run("for _ in range(2): display('x' * 2_000_000)")
    target.api.http.post("/mcp", json={}, headers=ACCEPT)
    target.api.http.get("/openapi.json")
    return target


def growth(row: str) -> int:
    """Return how much memory an attack may take, in MiB."""
    displays = {
        "messages that wait for WebSocket clients": 112,
        "text and record of the last cell, in the container's PID 1": 72,
    }
    return displays.get(row, 50)


@pytest.mark.parametrize("row", [*ATTACKS, *history.PREPARED])
def test_what_is_kept_is_bounded(warm: Service, row: str) -> None:
    """The attack takes little memory. Meanwhile the service answers other clients at once."""
    prepare = history.PREPARED.get(row)
    with prepare(warm) if prepare else nullcontext(ATTACKS[row]) as attack, unharmed(warm, growth(row)):
        attack(warm)


def test_every_bound_has_an_attack() -> None:
    """The rows of the table of bounds and the attacks have the same names."""
    page = (ROOT / "docs" / "security.md").read_text()
    section = page.partition("\n## Bounds\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| [^|]+ \|$", section, re.MULTILINE)
    assert rows[0] == "what is kept"
    assert rows[2:] == sorted([*ATTACKS, *history.PREPARED], key=rows.index)
