"""The time of day, unaffected by changes of the machine's clock while the service runs.

The clock may be set by hand, or by NTP after a boot. Sessions and files must not expire early or late because
of that. So the time is read once at the start, and the seconds since then are added. They include the time in
which the machine slept. The next start reads the clock again.
"""

import time
from typing import Final

_START: Final = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def now() -> float:
    """Return the time in seconds since the epoch."""
    return _START + time.clock_gettime(time.CLOCK_BOOTTIME)
