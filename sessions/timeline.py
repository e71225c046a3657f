"""The stages of an execution: when each began and ended, and parts of some of them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sessions import clock
from sessions.containers.sandbox import Launch

Stage = Literal["queue", "start", "stage", "run", "gather", "store"]
"""
queue: waiting for a kernel or for the session lock, without `start`
start: the part of that wait in which a container or a kernel was being started
stage: copying the inputs into the workspace
run: running the code
gather: receiving the remaining text, and finding the changed files
store: storing images and files; images are also stored while the code runs
"""

Inside = Literal["container", "kernel start", "supervisor", "kernel"]


@dataclass(frozen=True, slots=True)
class Period:
    """A stage or a part of one. Times are seconds since the epoch."""

    name: Stage | Inside
    began: float
    ended: float
    inside: tuple["Period", ...] = ()

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Timeline:
    """The periods of one execution, in the order in which they ended. A stage may have several or none."""

    def __init__(self) -> None:
        self.periods: list[Period] = []

    def add(self, stage: Stage, began: float, ended: float, *inside: Period) -> None:
        """Add a period. If it would end before it began, its length is 0."""
        self.periods.append(Period(stage, began, max(began, ended), inside))

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """Add the time of the block to a stage, also if the block raises."""
        began = clock.now()
        try:
            yield
        finally:
            self.add(stage, began, clock.now())

    def waited(self, began: float, launch: Launch | None) -> None:
        """Add a wait for a kernel that ends now; the launch of the kernel is the stage `start`.

        Args:
            began: when the wait began.
            launch: when the kernel was launched; None if that is not known.
        """
        ended = clock.now()
        offset = ended - time.monotonic()
        if launch is None or launch.ended + offset <= began:
            return self.add("queue", began, ended)
        first, up, last = (at + offset for at in (launch.began, launch.container_up, launch.ended))
        start = max(began, first)
        self.add("queue", began, start)
        self.add("start", start, ended, Period("container", first, up), Period("kernel start", up, last))

    def ran(self, began: float, ended: float, supervisor_sec: float | None, kernel_sec: float | None) -> None:
        """Add the stage `run`, with the durations that were measured inside the container.

        The container has another clock, so its periods are placed in the middle of the stage.
        """
        run = Period("run", began, max(began, ended))
        inside: tuple[Period, ...] = ()
        if supervisor_sec is not None:
            supervisor = _in_the_middle(run, "supervisor", supervisor_sec)
            kernel = () if kernel_sec is None else (_in_the_middle(supervisor, "kernel", kernel_sec),)
            inside = (Period("supervisor", supervisor.began, supervisor.ended, kernel),)
        self.add("run", run.began, run.ended, *inside)

    def seconds(self, stage: str) -> float:
        """Return the total time of a stage, in seconds."""
        return sum(period.seconds for period in self.periods if period.name == stage)

    def milliseconds(self, stage: Stage) -> float:
        """Return the total time of a stage, in milliseconds with three decimals."""
        return round(1000 * self.seconds(stage), 3)


def _in_the_middle(of: Period, name: Inside, seconds: float) -> Period:
    seconds = min(seconds, of.seconds)
    began = of.began + (of.seconds - seconds) / 2
    return Period(name, began, began + seconds)
