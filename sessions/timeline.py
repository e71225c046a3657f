"""When each stage of an execution began and ended, and what is known of the inside of some."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sessions import clock
from sessions.containers.sandbox import Launch

Stage = Literal["queue", "start", "stage", "run", "gather", "store"]
"""
queue: waiting for a kernel, or for its turn in a session, less `start`
start: the part of that wait in which a container or a kernel for it was being started
stage: putting the inputs into the workspace
run: the code in its kernel
gather: the rest of the text, and what changed in the workspace
store: images and files on their way to the disk; images also while the code runs
"""

Inside = Literal["container", "kernel start", "supervisor", "kernel"]


@dataclass(frozen=True, slots=True)
class Period:
    """From when to when, in seconds since the epoch."""

    name: Stage | Inside
    began: float
    ended: float
    inside: tuple["Period", ...] = ()

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Timeline:
    """The periods of one execution, in the order in which they ended. A stage may have several, or none."""

    def __init__(self) -> None:
        self.periods: list[Period] = []

    def add(self, stage: Stage, began: float, ended: float, *inside: Period) -> None:
        """Note a period; one that would end before it began has no length."""
        self.periods.append(Period(stage, began, max(began, ended), inside))

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """The block is that stage, however it ends."""
        began = clock.now()
        try:
            yield
        finally:
            self.add(stage, began, clock.now())

    def waited(self, began: float, launch: Launch | None) -> None:
        """A wait for a kernel is over; where it was for the start of that kernel, that is told apart."""
        ended = clock.now()
        offset = ended - time.monotonic()
        if launch is None or launch.ended + offset <= began:
            return self.add("queue", began, ended)
        first, up, last = (at + offset for at in (launch.began, launch.container_up, launch.ended))
        start = max(began, first)
        self.add("queue", began, start)
        self.add("start", start, ended, Period("container", first, up), Period("kernel start", up, last))

    def ran(self, began: float, ended: float, supervisor_sec: float | None, kernel_sec: float | None) -> None:
        """The code ran; the times of the container have no clock of ours, so they go into the middle."""
        run = Period("run", began, max(began, ended))
        inside: tuple[Period, ...] = ()
        if supervisor_sec is not None:
            supervisor = _in_the_middle(run, "supervisor", supervisor_sec)
            kernel = () if kernel_sec is None else (_in_the_middle(supervisor, "kernel", kernel_sec),)
            inside = (Period("supervisor", supervisor.began, supervisor.ended, kernel),)
        self.add("run", run.began, run.ended, *inside)

    def seconds(self, stage: str) -> float:
        """How long a stage took in all."""
        return sum(period.seconds for period in self.periods if period.name == stage)

    def milliseconds(self, stage: Stage) -> float:
        """As `seconds`, to the microsecond."""
        return round(1000 * self.seconds(stage), 3)


def _in_the_middle(of: Period, name: Inside, seconds: float) -> Period:
    seconds = min(seconds, of.seconds)
    began = of.began + (of.seconds - seconds) / 2
    return Period(name, began, began + seconds)
