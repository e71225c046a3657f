"""What a service says at ``/metrics``, read as Prometheus reads it."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def families(http: httpx.Client) -> list[Metric]:
    """All there is."""
    response = http.get("/metrics")
    assert response.status_code == 200, response.text[:500]
    assert response.headers["content-type"].startswith("text/plain; version=")
    return list(text_string_to_metric_families(response.text))


def samples(http: httpx.Client) -> Samples:
    """Every sample by its name and labels."""
    found: Samples = {}
    for family in families(http):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


class Change:
    """How the samples have changed since the block began; `of` looks at them as they are at its end."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._before = samples(http)
        self.after: Samples = {}

    def look(self) -> None:
        """Read them again."""
        self.after = samples(self._http)

    def of(self, name: str, **labels: str) -> float:
        """By how much all samples of that name changed that have these labels."""
        wanted, full = set(labels.items()), f"code_interpreter_{name}"
        return sum(
            value - self._before.get(key, 0)
            for key, value in self.after.items()
            if key[0] == full and wanted <= key[1]
        )


@contextmanager
def change(http: httpx.Client) -> Iterator[Change]:
    """What changes during the block."""
    changed = Change(http)
    yield changed
    changed.look()
