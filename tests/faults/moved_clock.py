"""Run the service as `service.server` does, with a clock that can be moved.

The first argument is a file: the seconds in it are added to the time of day, from the moment they are there.
Other processes and the monotonic clocks are not touched, as when somebody sets a machine's clock.
"""

import sys
import time
from argparse import Namespace
from pathlib import Path

_moved = Path(sys.argv[1])
_time_of_day = time.time


def _time() -> float:
    return _time_of_day() + float(_moved.read_text() or 0)


time.time = _time

if __name__ == "__main__":
    from service.server import main

    sys.exit(main(Namespace()))
