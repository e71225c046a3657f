"""The time of day, as the service counts it: what is to happen in an hour happens in an hour.

The machine's clock may be set while the service runs, by hand or by NTP after a boot. Expiry must not
follow such a jump: it would end every session at once, or none for a year. So the time is read once, at the
start, and counted on from there; a machine that slept has slept in it too. The next start reads it again.
"""

import time
from typing import Final

_START: Final = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def now() -> float:
    """Seconds since the epoch."""
    return _START + time.clock_gettime(time.CLOCK_BOOTTIME)
