"""How the pool's target follows the demand. Pure, with a clock of the test."""

from sessions.containers.pool.demand import Demand


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_target_without_demand_is_the_minimum() -> None:
    """The minimum may be zero."""
    assert Demand(2, 8, Clock()).target == 2
    assert Demand(0, 8, Clock()).target == 0


def test_target_follows_arrivals_up_and_down() -> None:
    """With three arrivals a second and launches of a second it is three. Later it is the minimum again."""
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


def test_target_grows_with_the_duration_of_launches() -> None:
    """Kernels that are asked for during a launch have to be ready already."""
    clock = Clock()
    demand = Demand(1, 20, clock)
    for _ in range(20):
        demand.arrived()
    assert demand.target == 2
    for _ in range(20):
        demand.launched(4.0)
    assert demand.target == 8


def test_target_never_exceeds_the_maximum() -> None:
    """A hundred callers arrive at once."""
    demand = Demand(1, 4, Clock())
    for _ in range(100):
        demand.arrived()
    assert demand.target == 4
