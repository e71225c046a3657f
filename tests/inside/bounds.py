# ruff: noqa: T201
"""Starts threads, then processes, until the container refuses. Prints how many of each were started."""

import json
import os
import signal
import threading

LIMIT = 2000
release = threading.Event()
threads: list[threading.Thread] = []
try:
    while len(threads) < LIMIT:
        threads.append(threading.Thread(target=release.wait, daemon=True))
        threads[-1].start()
except RuntimeError:
    threads.pop()
release.set()
for thread in threads:
    thread.join()

children: list[int] = []
try:
    while len(children) < LIMIT:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        children.append(child)
except OSError:
    pass
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(json.dumps({"threads": len(threads), "processes": len(children)}))
