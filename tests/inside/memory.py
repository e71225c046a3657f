# ruff: noqa: T201
"""Searches this process's own memory for secrets, without ever holding a whole secret.

Standard input is a JSON list of {"head", "length", "sha256"}: the beginning of a secret, its length in
bytes, and its digest. Prints how often each was found. The first number is for a control, which this
file plants itself.
"""

import hashlib
import json
import sys
from typing import Any

CHUNK = 16 * 1024 * 1024


def times_found(secret: dict[str, Any]) -> int:
    """Return how many places in readable memory hold the secret."""
    head, length = secret["head"].encode(), secret["length"]
    found = 0
    with open("/proc/self/maps") as maps:
        regions = [line.split() for line in maps]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for region in regions:
            if not region[1].startswith("r"):
                continue
            start, end = (int(edge, 16) for edge in region[0].split("-"))
            for at in range(start, end, CHUNK):
                try:
                    memory.seek(at)
                    data = memory.read(min(CHUNK + length, end - at))
                except (OSError, OverflowError, ValueError):
                    break
                place = data.find(head)
                while place != -1:
                    candidate = data[place : place + length]
                    found += hashlib.sha256(candidate).hexdigest() == secret["sha256"]
                    place = data.find(head, place + 1)
    return found


planted = "-".join(["planted", "here", "to", "be", "found"]).encode()
control = {
    "head": "planted-",
    "length": len(planted),
    "sha256": hashlib.sha256(planted).hexdigest(),
}
print(json.dumps([times_found(secret) for secret in [control, *json.load(sys.stdin)]]))
