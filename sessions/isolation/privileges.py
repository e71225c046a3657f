"""Isolation checks of privileges: user, capabilities, system calls, other processes."""

from typing import Final

from kernel_image import contract
from sessions.isolation.check import (
    HELP_IMAGE,
    HELP_OPTION,
    CheckFailed,
    Expected,
    Facts,
    IsolationCheck,
    agree,
    none_of,
    succeeded,
)

_CAPABILITY_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_REFUSED: Final = frozenset({"EPERM", "ENOSYS"})
_NO_SUCH_SOCKET: Final = frozenset({"EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"})
_ENGINE_FILTER_AND_OURS: Final = 2


def _user(facts: Facts, expected: Expected) -> str:
    status, user_id, allowed = facts["status"], expected.user_id, contract.USER_IDS
    for name in ("Uid", "Gid"):
        agree(set(status[name].split()), {str(user_id)}, name)
    if user_id not in allowed:
        raise CheckFailed(f"the uid is {user_id}, not from {allowed.start} to {allowed.stop - 1}")
    agree(status["Groups"], "", "the list of groups")
    return f"uid and gid {user_id}, no other group"


def _capabilities(facts: Facts, _: Expected) -> str:
    status = facts["status"]
    none_of((f"{name}={status[name]}" for name in _CAPABILITY_SETS if int(status[name], 16)), "not empty")
    return "every set is empty"


def _new_privileges(facts: Facts, _: Expected) -> str:
    agree(facts["status"]["NoNewPrivs"], "1", "NoNewPrivs")
    return "NoNewPrivs is 1"


def _filters(facts: Facts, _: Expected) -> str:
    status = facts["status"]
    agree(status["Seccomp"], "2", "Seccomp")
    filters = status.get("Seccomp_filters")
    if filters is not None:
        if int(filters) < _ENGINE_FILTER_AND_OURS:
            raise CheckFailed(
                "only the kernel image's is in force: the engine's is off (seccomp=unconfined?)"
            )
        return f"{filters} are in force: the engine's and the kernel image's"
    # Before Linux 5.9 filters are not counted. Docker's filter refuses get_mempolicy, ours does not.
    if facts["memory policy"] not in _REFUSED:
        raise CheckFailed("the engine's is off: get_mempolicy, which Docker's refuses, works")
    return "the engine's and the kernel image's are in force"


def _system_calls(facts: Facts, _: Expected) -> str:
    none_of(succeeded(facts["system calls"], _REFUSED), "not refused")
    return f"{len(facts['system calls'])} that exploits have used are refused"


def _sockets(facts: Facts, _: Expected) -> str:
    none_of(succeeded(facts["sockets"], _NO_SUCH_SOCKET), "not refused")
    return f"refused: {', '.join(facts['sockets'])}"


def _first_process(facts: Facts, _: Expected) -> str:
    first = facts["first process"]
    if "kernel_image" not in first["command"]:
        raise CheckFailed(f"PID 1 is not the supervisor but {first['command'].strip()!r}")
    none_of(succeeded(first["attempts"]), "of PID 1 can be had")
    return "PID 1 can be neither read nor signalled"


CHECKS: Final = (
    IsolationCheck("user", _user, HELP_IMAGE),
    IsolationCheck("capabilities", _capabilities, HELP_IMAGE),
    IsolationCheck("new privileges", _new_privileges, HELP_OPTION),
    IsolationCheck("system call filters", _filters, HELP_OPTION),
    IsolationCheck("system calls", _system_calls, HELP_IMAGE),
    IsolationCheck("sockets", _sockets, HELP_IMAGE),
    IsolationCheck("first process", _first_process, HELP_OPTION),
)
