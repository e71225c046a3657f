"""The metrics of a service: the answer of `/metrics`, parsed as Prometheus parses it."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def families(http: httpx.Client) -> list[Metric]:
    """Return all metrics."""
    response = http.get("/metrics")
    assert response.status_code == 200, response.text[:500]
    assert response.headers["content-type"].startswith("text/plain; version=")
    return list(text_string_to_metric_families(response.text))


def samples(http: httpx.Client) -> Samples:
    """Return every sample by its name and labels."""
    found: Samples = {}
    for family in families(http):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


class Change:
    """Differences between the samples at the start of a block and at its end."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._before = samples(http)
        self.after: Samples = {}

    def read(self) -> None:
        """Read the samples again, as those of the end."""
        self.after = samples(self._http)

    def of(self, name: str, **labels: str) -> float:
        """Return the summed change of all samples with this name and these labels."""
        expected, full_name = set(labels.items()), f"code_interpreter_{name}"
        return sum(
            value - self._before.get(key, 0)
            for key, value in self.after.items()
            if key[0] == full_name and expected <= key[1]
        )


@contextmanager
def change(http: httpx.Client) -> Iterator[Change]:
    """Measure the changes during the block."""
    changed = Change(http)
    yield changed
    changed.read()
