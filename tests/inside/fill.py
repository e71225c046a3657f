# ruff: noqa: T201
"""Fills every writable file system at the same time. Prints each one's error number and bytes written."""

import json
import os
import pathlib

PIECE = b"x" * (1024 * 1024)
PIECES_A_FILE = 8
MOST_FILES = 100
ended: dict[str, list[int]] = {}
folders = ("/workspace", "/tmp", str(pathlib.Path.home()), "/dev/shm")
for folder in folders:
    taken = 0
    try:
        for number in range(MOST_FILES):
            with open(f"{folder}/fill-{number}", "wb", buffering=0) as file:
                for _ in range(PIECES_A_FILE):
                    taken += file.write(PIECE)
        ended[folder] = [0, taken]
    except OSError as error:
        ended[folder] = [error.errno or -1, taken]
for folder in folders:
    for path in pathlib.Path(folder).glob("fill-*"):
        os.remove(path)
print(json.dumps(ended))
