"""A chart of executions per second. The service draws it."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from bench.engine import Engine
from bench.service import Service

_DRAW = """
import json
from collections import defaultdict
import matplotlib.pyplot as plt

groups = defaultdict(list)
for name, clients, per_second in json.loads(input()):
    groups[name].append((clients, per_second))
figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
position, ticks, labels = 0.0, [], []
for name, bars in groups.items():
    places = [position + i for i in range(len(bars))]
    drawn = axes.bar(places, [per_second for _, per_second in bars], width=0.85, label=name)
    axes.bar_label(drawn, [f"{per_second:.1f}" for _, per_second in bars], fontsize=8)
    ticks += places
    labels += [str(clients) for clients, _ in bars]
    position += len(bars) + 0.8
axes.set_xticks(ticks, labels)
axes.set_xlabel("concurrent callers")
axes.set_ylabel("executions of 1+1 per second")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()
"""


def draw(engine: Engine, rows: Sequence[tuple[str, int, float]], path: Path) -> None:
    """Draw bars of (name, concurrent callers, executions per second), one group for each name."""
    with Service(engine) as service:
        result = service.execute(_DRAW, stdin=json.dumps(rows), timeout_ms=10_000)
    (image,) = (output["data"]["image/png"] for output in result["outputs"] if "image/png" in output["data"])
    path.write_bytes(base64.b64decode(image))
