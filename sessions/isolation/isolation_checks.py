"""What keeps the user's code in, wall by wall: how each ought to be, held against what a probe found. Pure.

A wall that could not be looked at does not hold.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kernel_image import contract
from sessions.containers.engine import Lack
from sessions.models import Limits

Lacks = Collection[Lack]
Facts = Mapping[str, Any]
"""What the probe printed, and `heard`: which of the self-test's sockets got a connection or a datagram."""

_CAPABILITY_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_REFUSED: Final = frozenset({"EPERM", "ENOSYS"})
_NO_SUCH_SOCKET: Final = frozenset({"EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"})
_OWN_PLACES: Final = re.compile(r"/|/(proc|sys|dev)(/.*)?|/etc/(resolv\.conf|hostname|hosts)")
"""Where a container has mounts of its engine's: its root, the kernel's file systems, its names."""
_OWN_FILES: Final = frozenset({"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"})
_READ_ONLY: Final = ("/", "/sys", "/proc/sys")
_MESSAGE_QUEUES: Final = "/dev/mqueue"
_DEVICES: Final = frozenset(
    f"/dev/{name}"
    for name in ("console", "full", "null", "ptmx", "pts/ptmx", "random", "tty", "urandom", "zero")
)
_MOST_FILES_OPEN: Final = 65_536
_MOST_INODES: Final = 1 << 20
_PAGES_BYTES: Final = 1 << 16
"""The kernel rounds limits of memory to pages."""
_ENGINE_FILTER_AND_OURS: Final = 2

_IMAGE: Final = "build the kernel image anew (`make image`), and from nothing but this version's"
_LIMIT: Final = "see which limits the container engine warns of (`docker info`) and give its host that cgroup"
_OPTION: Final = "let neither the engine's configuration nor its runtime change what the service asks for"
_NETWORK: Final = "let the host's kernel have nf_tables, and do not replace the image's start command"


class _Broken(Exception):
    """A wall does not hold; the text says in what."""


@dataclass(frozen=True)
class Check:
    """A wall, whether it holds, and what was seen of it; `advice` is what helps if it does not."""

    name: str
    ok: bool
    detail: str
    advice: str


@dataclass(frozen=True)
class _Wall:
    name: str
    look: Callable[[Facts, Limits, Lacks], str]
    """Says how it holds; raises `_Broken`, or a LookupError where a fact is missing."""
    advice: str


def judge(facts: Facts, limits: Limits, lacks: Lacks = ()) -> tuple[Check, ...]:
    """Hold what a probe found against what ought to be.

    `limits` are the container's, `lacks` what its engine can't give it. What stands in for those:
    without mount options, nobody inside gains privileges or makes a device, by walls of their own;
    the supervisor counts processes and files, which are charged to the container's memory; names that the
    engine mounts belong to root, and that they can't be written to is looked at in any case.
    """
    return tuple(_judge(wall, facts, limits, lacks) for wall in _WALLS)


def not_done(reason: str) -> Check:
    """In place of all checks: the probe told nothing."""
    return Check("probe", False, reason, _IMAGE)


def _judge(wall: _Wall, facts: Facts, limits: Limits, lacks: Lacks) -> Check:
    try:
        return Check(wall.name, True, wall.look(facts, limits, lacks), wall.advice)
    except _Broken as broken:
        detail = str(broken)
    except (LookupError, TypeError, ValueError) as error:
        detail = f"could not be looked at: {'; '.join(facts['unknown'].values()) or repr(error)}"
    return Check(wall.name, False, detail, wall.advice)


def _none_of(found: Iterable[str], what: str) -> None:
    found = sorted(found)
    if found:
        raise _Broken(f"{what}: {', '.join(found)}")


def _agree(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise _Broken(f"{what} is {found}, not {expected}")


def _done(outcomes: Mapping[str, str], refusals: frozenset[str] | None = None) -> list[str]:
    """What worked; with `refusals`, also what failed for another reason, so that it may work yet."""
    return [
        f"{name} ({outcome})"
        for name, outcome in outcomes.items()
        if outcome == "done" or (refusals is not None and outcome not in refusals)
    ]


# --- privileges -----------------------------------------------------------------------------------


def _user(facts: Facts, _: Limits, __: Lacks) -> str:
    status = facts["status"]
    for name in ("Uid", "Gid"):
        _agree(set(status[name].split()), {str(contract.USER_ID)}, name)
    _agree(status["Groups"], "", "the list of groups")
    return f"uid and gid {contract.USER_ID}, no other group"


def _capabilities(facts: Facts, _: Limits, __: Lacks) -> str:
    status = facts["status"]
    _none_of((f"{name}={status[name]}" for name in _CAPABILITY_SETS if int(status[name], 16)), "not empty")
    return "every set is empty"


def _new_privileges(facts: Facts, _: Limits, __: Lacks) -> str:
    _agree(facts["status"]["NoNewPrivs"], "1", "NoNewPrivs")
    return "NoNewPrivs is 1"


def _filters(facts: Facts, _: Limits, __: Lacks) -> str:
    status = facts["status"]
    _agree(status["Seccomp"], "2", "Seccomp")
    filters = status.get("Seccomp_filters")
    if filters is not None:
        if int(filters) < _ENGINE_FILTER_AND_OURS:
            raise _Broken("only the kernel image's own is there: the engine's is off (seccomp=unconfined?)")
        return f"{filters} are in force: the engine's and the kernel image's"
    # Before Linux 5.9 they are not counted.
    if facts["memory policy"] not in _REFUSED:
        raise _Broken("the engine's is off: get_mempolicy, which Docker's refuses, works")
    return "the engine's and the kernel image's are in force"


def _system_calls(facts: Facts, _: Limits, __: Lacks) -> str:
    _none_of(_done(facts["system calls"], _REFUSED), "not refused")
    return f"{len(facts['system calls'])} that exploits have come from are refused"


def _sockets(facts: Facts, _: Limits, __: Lacks) -> str:
    _none_of(_done(facts["sockets"], _NO_SUCH_SOCKET), "not refused")
    return f"refused: {', '.join(facts['sockets'])}"


def _first_process(facts: Facts, _: Limits, __: Lacks) -> str:
    first = facts["first process"]
    if "kernel_image" not in first["command"]:
        raise _Broken(f"PID 1 is not the supervisor but {first['command'].strip()!r}")
    _none_of(_done(first["attempts"]), "of PID 1 can be had")
    return "PID 1 can be neither read nor signalled"


# --- files ----------------------------------------------------------------------------------------


def _root(facts: Facts, _: Limits, __: Lacks) -> str:
    mounts = facts["mounts"]
    unprotected = (p for p in _READ_ONLY if p not in mounts or "ro" not in mounts[p]["options"])
    _none_of(unprotected, "not read-only")
    return f"read-only: {', '.join(_READ_ONLY)}"


def _mounts(facts: Facts, _: Limits, lacks: Lacks) -> str:
    mounts, spaces = facts["mounts"], facts["spaces"]
    _none_of((p for p in mounts if p not in spaces and not _OWN_PLACES.fullmatch(p)), "mounted besides")
    if "read-only names" not in lacks:
        _none_of((p for p in _OWN_FILES & set(mounts) if "ro" not in mounts[p]["options"]), "not read-only")
    _none_of(facts["engine sockets"], "sockets of a container engine")
    _none_of(set(facts["writable"]) - set(spaces) - {_MESSAGE_QUEUES}, "can be written to")
    return f"nothing of the host's; only {', '.join(spaces)} can be written to"


def _spaces(facts: Facts, limits: Limits, lacks: Lacks) -> str:
    for place, space in facts["spaces"].items():
        mount = facts["mounts"].get(place)
        if mount is None or mount["kind"] != "tmpfs":
            raise _Broken(f"{place} is not a tmpfs of its own")
        if "mount options" not in lacks:
            _none_of({"nosuid", "nodev"} - set(mount["options"]), f"{place} lacks")
        expected = limits.workspace_bytes if place == contract.WORKSPACE else limits.tmp_bytes
        _agree(space["bytes"], expected, f"the size of {place} in bytes")
        if "inode limits" not in lacks and not 0 < space["inodes"] <= _MOST_INODES:
            raise _Broken(f"{place} has no limit of inodes")
    more = "" if lacks else ", nosuid, nodev, of limited inodes"
    return f"{len(facts['spaces'])} tmpfs of limited size{more}"


def _devices(facts: Facts, _: Limits, __: Lacks) -> str:
    _none_of((name for name in facts["devices"] if name not in _DEVICES), "there are")
    return "none but null, zero, random and terminals"


# --- limits ---------------------------------------------------------------------------------------


def _memory(facts: Facts, limits: Limits, __: Lacks) -> str:
    group = facts["cgroup"]
    found = _bytes(group["memory"])
    if found is None or abs(found - limits.memory_bytes) > _PAGES_BYTES:
        raise _Broken(f"the limit is {group['memory']}, not {limits.memory_bytes} bytes")
    return f"{found} bytes"


def _swap(facts: Facts, _: Limits, __: Lacks) -> str:
    group = facts["cgroup"]
    if group["swap"] == "0" or group["memory and swap"] == group["memory"] is not None:
        return "none may be used"
    if facts["swap of machine"] == 0:
        return "the machine has none"
    raise _Broken("memory has a limit and swap has none")


def _bytes(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _processes(facts: Facts, limits: Limits, lacks: Lacks) -> str:
    if "process limits" in lacks:
        return f"at most {limits.pids}, which the supervisor counts"
    _agree(facts["cgroup"]["pids"], str(limits.pids), "the limit of processes")
    return f"at most {limits.pids}"


def _cpu(facts: Facts, limits: Limits, __: Lacks) -> str:
    quota, period = facts["cgroup"]["quota"], facts["cgroup"]["period"]
    if _bytes(quota) is None or abs(int(quota) / int(period) - limits.cpus) > 0.01:
        raise _Broken(f"the quota is {quota} of {period} µs, not {limits.cpus:g} CPUs")
    return f"{limits.cpus:g} CPUs"


def _process_limits(facts: Facts, limits: Limits, __: Lacks) -> str:
    found = facts["limits"]
    _agree(found["core"], 0, "the largest core file")
    _agree(found["fsize"], limits.workspace_bytes + limits.tmp_bytes, "the largest file in bytes")
    if not 0 < found["nofile"] <= _MOST_FILES_OPEN:
        raise _Broken(f"the number of open files is {found['nofile']}")
    return f"no core files, {found['nofile']} open files, files of {found['fsize']} bytes"


# --- network --------------------------------------------------------------------------------------


def _host(facts: Facts, _: Limits, __: Lacks) -> str:
    reach = facts["reach"]
    tried = reach["host"] | reach["udp"] | reach["ping"]
    _none_of([*_done(tried), *(f"the self-test's {name} listener" for name in facts["heard"])], "reached")
    return f"refused: {', '.join(tried)}"


def _service(facts: Facts, _: Limits, __: Lacks) -> str:
    _none_of(_done(facts["reach"]["service"]), "reached")
    return f"refused: {', '.join(facts['reach']['service'])}"


def _kernels(facts: Facts, _: Limits, __: Lacks) -> str:
    tried = facts["reach"]["kernels"]
    _none_of(_done(tried), "reached")
    hosts = sorted({name.removeprefix("tcp ").partition(":")[0] for name in tried})
    return f"refused: {len(tried)} ports of kernels, at {', '.join(hosts)}"


def _resolver(facts: Facts, _: Limits, __: Lacks) -> str:
    _none_of(_done(facts["resolver"]), "answers by")
    return "127.0.0.11 does not answer"


def _supervisor(facts: Facts, _: Limits, __: Lacks) -> str:
    _none_of(_done(facts["supervisor"]), "answers from inside on")
    return f"closed from inside: {', '.join(facts['supervisor'])}"


def _ipv6(facts: Facts, _: Limits, __: Lacks) -> str:
    _none_of(_done(facts["ipv6"]), "is open on")
    return f"refused on {', '.join(facts['ipv6'])}" if facts["ipv6"] else "there is none"


def _netlink(facts: Facts, _: Limits, __: Lacks) -> str:
    _agree(facts["netlink change"], "EPERM", "the answer to an address for lo")
    return "nothing can be changed"


_WALLS: Final = (
    _Wall("user", _user, _IMAGE),
    _Wall("capabilities", _capabilities, _IMAGE),
    _Wall("new privileges", _new_privileges, _OPTION),
    _Wall("system call filters", _filters, _OPTION),
    _Wall("system calls", _system_calls, _IMAGE),
    _Wall("sockets", _sockets, _IMAGE),
    _Wall("first process", _first_process, _OPTION),
    _Wall("read-only root", _root, _OPTION),
    _Wall("mounts", _mounts, _OPTION),
    _Wall("writable folders", _spaces, _OPTION),
    _Wall("devices", _devices, _OPTION),
    _Wall("memory", _memory, _LIMIT),
    _Wall("swap", _swap, "turn the machine's swap off, or boot it with swapaccount=1"),
    _Wall("processes", _processes, _LIMIT),
    _Wall("CPU", _cpu, _LIMIT),
    _Wall("process limits", _process_limits, _OPTION),
    _Wall("host", _host, _NETWORK),
    _Wall("service's port", _service, _NETWORK),
    _Wall("other kernels", _kernels, _NETWORK),
    _Wall("Docker's resolver", _resolver, _NETWORK),
    _Wall("supervisor's port", _supervisor, _NETWORK),
    _Wall("IPv6", _ipv6, _NETWORK),
    _Wall("network settings", _netlink, _IMAGE),
)
