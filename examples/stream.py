"""Follow an execution while it runs: a progress bar, then a figure.

    python3 examples/stream.py [--url http://127.0.0.1:8000] [--key KEY] [--out out]

It needs only Python.
"""

import argparse
import base64
import sys
import time
from pathlib import Path

from client import DEFAULT_URL, Client, ClientError

# The code that runs in the service.
CODE = r"""
import time

import matplotlib.pyplot as plt
import numpy as np

random = np.random.default_rng(2024)
rounds, darts, inside, estimates = 40, 50_000, 0, []
for done in range(1, rounds + 1):
    x, y = random.random((2, darts))
    inside += np.count_nonzero(x**2 + y**2 < 1)
    estimates.append(4 * inside / (done * darts))
    bar = "#" * done + "." * (rounds - done)
    print(f"\r[{bar}] pi is about {estimates[-1]:.5f}", end="", flush=True)
    time.sleep(0.05)
print()

figure, chart = plt.subplots(figsize=(7, 4), layout="constrained")
millions = np.arange(1, rounds + 1) * darts / 1e6
chart.axhline(np.pi, color="#7b2d43", linestyle="--", label="π")
chart.plot(millions, estimates, color="#3d6f8e", linewidth=2, label="4 × share in the circle")
chart.set(title="Throwing darts at π", xlabel="darts, in millions", ylabel="estimate")
chart.legend(frameon=False)
plt.show()
print(f"off by {abs(estimates[-1] - np.pi):.5f}")
"""


def follow(client: Client, out: Path, timeout_ms: int) -> None:
    """Print text as it arrives, save figures in `out`, and print how the code ended."""
    print(f"Service {client.version()} at {client.url}")
    started = time.perf_counter()
    shown = 0
    for event, data in client.stream(CODE, timeout_ms=timeout_ms):
        if event == "output":
            stream = sys.stdout if data["stream"] == "stdout" else sys.stderr
            stream.write(data["data"])
            stream.flush()
        elif event == "display" and "image/png" in data["data"]:
            shown += 1
            out.mkdir(parents=True, exist_ok=True)
            target = out / f"figure-{shown}.png"
            target.write_bytes(base64.b64decode(data["data"]["image/png"]))
            print(f"<figure: {target}, after {time.perf_counter() - started:.1f} s>")
        elif event == "result":
            if data["error"]:
                raise ClientError(f"The code failed: {data['error']['name']}")
            print(f"Ended with exit code {data['exit_code']} after {data['duration_ms']} ms")


def main() -> None:
    """Run the example. An error is one sentence and exit code 1."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", default=DEFAULT_URL, help="address of the service (%(default)s)")
    arguments.add_argument("--key", default="", help="API key, if the service needs one")
    arguments.add_argument("--out", default="out", type=Path, help="folder for the figures (%(default)s)")
    arguments.add_argument(
        "--timeout", default=10, type=int, metavar="SECONDS", help="time limit of the code (%(default)s)"
    )
    given = arguments.parse_args()
    try:
        follow(Client(given.url, given.key), given.out, given.timeout * 1000)
    except ClientError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
