"""`/api/kernelspecs` and `/api/kernels`: sessions as kernels of Jupyter's REST API."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from service.gateway.errors import ANSWERS, KernelSpecNotFound
from service.gateway.gateway import Gateway
from service.http.dependencies import CallerDep, OwnerDep, SessionsDep
from service.http.errors import ForeignOrigin
from service.http.path_parameters import KernelIdPath, KernelSpecPath
from service.http.refusals import BODY, KERNEL, refusals
from service.http.values import SessionId, Text
from service.replicas.errors import ReplicaLost
from sessions.containers.errors import EngineUnavailable, LaunchFailed
from sessions.errors import SessionBusy, SessionEnded, SessionMoving, SessionNotFound, TooManySessions
from sessions.kernels.errors import SupervisorFailed
from sessions.models import DEFAULT_TTL_SEC
from sessions.records import SessionRecord
from sessions.session.session import Session

router = APIRouter(prefix="/api", tags=["jupyter"], responses=refusals(ForeignOrigin))

_DEFAULT: Final = "python3"
_SESSION: Final = "session-"
_NAME: Final = "Python 3 (sandbox)"
_GONE: Final = (SessionNotFound, SessionMoving, ReplicaLost)
_START: Final = (*KERNEL, KernelSpecNotFound, *_GONE, TooManySessions, *BODY)
_REPLACE: Final = (*_GONE, SessionBusy, EngineUnavailable, LaunchFailed, SupervisorFailed)


class KernelSpec(BaseModel):
    """A kernelspec: the default one, or one that stands for an open session."""

    name: str = Field(description="Name for `POST /api/kernels`.", examples=[_DEFAULT])
    spec: dict[str, Any] = Field(
        description="As in a `kernel.json`.",
        examples=[{"argv": [], "display_name": _NAME, "language": "python", "interrupt_mode": "message"}],
    )
    resources: dict[str, str] = Field(description="Always empty.", examples=[{}])

    @classmethod
    def of(cls, name: str, display_name: str) -> Self:
        """Return a spec without a command, as clients start no process."""
        spec = {
            "argv": [],
            "env": {},
            "display_name": display_name,
            "language": "python",
            "interrupt_mode": "signal",
            "metadata": {},
        }
        return cls(name=name, spec=spec, resources={})


class KernelSpecs(BaseModel):
    """The kernels that a notebook may choose."""

    default: str = Field(description="The kernelspec that is used if none is named.", examples=[_DEFAULT])
    kernelspecs: dict[str, KernelSpec] = Field(
        description="A new sandbox, and each open session without a connection. Choosing a session opens it."
    )


class StartKernel(BaseModel):
    """The kernel to start. Other fields that Jupyter sends, such as `env`, are ignored."""

    name: Text | None = Field(
        None, description="Name of a kernelspec; null for the default.", examples=[_DEFAULT]
    )


class Kernel(BaseModel):
    """A session, as Jupyter sees it."""

    id: SessionId
    name: str = Field(description="Always the default kernelspec.", examples=[_DEFAULT])
    last_activity: str = Field(
        description="Time of the last use, in UTC.", examples=["2026-01-01T00:01:00.250000Z"]
    )
    execution_state: Literal["idle", "busy"] = Field(
        description="`busy` while code is running.", examples=["idle"]
    )
    connections: int = Field(description="Number of open WebSockets.", examples=[1])


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _session(kernel_id: KernelIdPath, sessions: SessionsDep, owner: OwnerDep) -> Session:
    """Return the session. An ended one is 404, because Jupyter knows no 410."""
    try:
        session = await sessions.get(kernel_id, owner)
    except SessionEnded as error:
        raise SessionNotFound(kernel_id) from error
    await session.cells.written()
    return session


GatewayDep = Annotated[Gateway, Depends(_gateway)]
SessionDep = Annotated[Session, Depends(_session)]


def _kernel(session: Session, gateway: Gateway) -> Kernel:
    return _described(session.record, busy=session.busy, connections=gateway.connections(session.session_id))


def _described(record: SessionRecord, *, busy: bool, connections: int = 0) -> Kernel:
    used = datetime.fromtimestamp(record.last_used_at, UTC)
    return Kernel(
        id=record.session_id,
        name=_DEFAULT,
        last_activity=used.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        execution_state="busy" if busy else "idle",
        connections=connections,
    )


@router.get("/kernelspecs")
async def list_kernelspecs(sessions: SessionsDep, owner: OwnerDep, gateway: GatewayDep) -> KernelSpecs:
    """List the kernelspecs: a new sandbox, and the open sessions without a connection."""
    specs = [KernelSpec.of(_DEFAULT, _NAME)]
    here = [
        session.record for session in sessions.all_of(owner) if not gateway.connections(session.session_id)
    ]
    there = [other.record for other in await sessions.open_at_other_replicas(owner)]
    for record in (*here, *there):
        at = datetime.fromtimestamp(record.created_at, UTC)
        name = f"Session {record.session_id[:8]} of {at:%H:%M} UTC"
        specs.append(KernelSpec.of(_SESSION + record.session_id, name))
    return KernelSpecs(default=_DEFAULT, kernelspecs={spec.name: spec for spec in specs})


@router.get("/kernelspecs/{name}", responses=refusals(KernelSpecNotFound, answers=ANSWERS))
async def get_kernelspec(
    name: KernelSpecPath, sessions: SessionsDep, owner: OwnerDep, gateway: GatewayDep
) -> KernelSpec:
    """Get one kernelspec."""
    known = await list_kernelspecs(sessions, owner, gateway)
    if name not in known.kernelspecs:
        raise KernelSpecNotFound(name)
    return known.kernelspecs[name]


@router.post("/kernels", status_code=201, responses=refusals(*_START, answers=ANSWERS))
async def start_kernel(
    sessions: SessionsDep,
    caller: CallerDep,
    gateway: GatewayDep,
    response: Response,
    asked: StartKernel | None = None,
) -> Kernel:
    """Start a session, or return the open one that the kernelspec names."""
    name = (asked.name if asked else None) or _DEFAULT
    if name == _DEFAULT:
        session = await sessions.create(caller, DEFAULT_TTL_SEC)
    elif name.startswith(_SESSION):
        session = await _session(name.removeprefix(_SESSION), sessions, caller.owner)
    else:
        raise KernelSpecNotFound(name)
    response.headers["Location"] = f"/api/kernels/{session.session_id}"
    return _kernel(session, gateway)


@router.get("/kernels")
async def list_kernels(sessions: SessionsDep, owner: OwnerDep, gateway: GatewayDep) -> list[Kernel]:
    """List the open sessions, oldest first."""
    here = [_kernel(session, gateway) for session in await sessions.all_written(owner)]
    there = [
        _described(other.record, busy=other.busy) for other in await sessions.open_at_other_replicas(owner)
    ]
    return here + there


@router.get("/kernels/{kernel_id}", responses=refusals(*_GONE))
async def get_kernel(session: SessionDep, gateway: GatewayDep) -> Kernel:
    """Get one session."""
    return _kernel(session, gateway)


@router.delete("/kernels/{kernel_id}", status_code=204, responses=refusals(*_GONE))
async def delete_kernel(session: SessionDep, sessions: SessionsDep) -> None:
    """Delete a session."""
    await sessions.delete(session)


@router.post(
    "/kernels/{kernel_id}/interrupt",
    status_code=204,
    responses=refusals(*_GONE, SupervisorFailed),
)
async def interrupt_kernel(session: SessionDep) -> None:
    """Interrupt the running code, as Ctrl-C does."""
    await session.interrupt()


@router.post("/kernels/{kernel_id}/restart", responses=refusals(*_REPLACE))
async def restart_kernel(session: SessionDep, gateway: GatewayDep) -> Kernel:
    """Restart the kernel: variables are gone, files are kept."""
    await gateway.restart(session)
    return _kernel(session, gateway)
