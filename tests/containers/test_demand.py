"""How the pool's target follows what is asked for. Pure, with a clock of the test's own."""

from sessions.containers.pool.demand import Demand


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_demand_the_least_is_kept() -> None:
    """Nobody asks: the least, also where that is none."""
    assert Demand(2, 8, Clock()).target == 2
    assert Demand(0, 8, Clock()).target == 0


def test_it_follows_arrivals_up_and_down() -> None:
    """Three a second, and a kernel takes a second to make: three; afterwards the least again."""
    clock = Clock()
    demand = Demand(1, 8, clock)
    for _ in range(30):
        clock.now += 1 / 3
        demand.arrived()
    assert demand.target == 3
    clock.now += 5
    assert demand.target == 2
    clock.now += 10
    assert demand.target == 1


def test_the_slower_kernels_are_made_the_more_are_kept() -> None:
    """What is asked for while one is made has to be there already."""
    clock = Clock()
    demand = Demand(1, 20, clock)
    for _ in range(20):
        demand.arrived()
    assert demand.target == 2
    for _ in range(20):
        demand.launched(4.0)
    assert demand.target == 8


def test_it_never_wants_more_than_the_most() -> None:
    """A burst of a hundred."""
    demand = Demand(1, 4, Clock())
    for _ in range(100):
        demand.arrived()
    assert demand.target == 4
