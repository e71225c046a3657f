"""Isolation checks of the network: no address outside the container may be reached."""

from typing import Final

from sessions.isolation.check import (
    HELP_IMAGE,
    HELP_NETWORK,
    Expected,
    Facts,
    IsolationCheck,
    agree,
    none_of,
    succeeded,
)


def _host(facts: Facts, _: Expected) -> str:
    reach = facts["reach"]
    tried = reach["host"] | reach["udp"] | reach["ping"]
    received = (f"the self-test's {name} listener" for name in facts["received"])
    none_of([*succeeded(tried), *received], "reached")
    return f"refused: {', '.join(tried)}"


def _service(facts: Facts, _: Expected) -> str:
    none_of(succeeded(facts["reach"]["service"]), "reached")
    return f"refused: {', '.join(facts['reach']['service'])}"


def _kernels(facts: Facts, _: Expected) -> str:
    tried = facts["reach"]["kernels"]
    none_of(succeeded(tried), "reached")
    hosts = sorted({name.removeprefix("tcp ").partition(":")[0] for name in tried})
    return f"refused: {len(tried)} ports of kernels, at {', '.join(hosts)}"


def _resolver(facts: Facts, _: Expected) -> str:
    none_of(succeeded(facts["resolver"]), "answers by")
    return "127.0.0.11 does not answer"


def _supervisor(facts: Facts, _: Expected) -> str:
    none_of(succeeded(facts["supervisor"]), "answers from inside on")
    return f"closed from inside: {', '.join(facts['supervisor'])}"


def _ipv6(facts: Facts, _: Expected) -> str:
    none_of(succeeded(facts["ipv6"]), "is open on")
    return f"refused on {', '.join(facts['ipv6'])}" if facts["ipv6"] else "there is none"


def _netlink(facts: Facts, _: Expected) -> str:
    agree(facts["netlink change"], "EPERM", "the answer to an address for lo")
    return "nothing can be changed"


CHECKS: Final = (
    IsolationCheck("host", _host, HELP_NETWORK),
    IsolationCheck("service's port", _service, HELP_NETWORK),
    IsolationCheck("other kernels", _kernels, HELP_NETWORK),
    IsolationCheck("Docker's resolver", _resolver, HELP_NETWORK),
    IsolationCheck("supervisor's port", _supervisor, HELP_NETWORK),
    IsolationCheck("IPv6", _ipv6, HELP_NETWORK),
    IsolationCheck("network settings", _netlink, HELP_IMAGE),
)
