"""``/v1/executions``: recorded executions, with their outcomes and the durations of their stages."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.database.errors import InvalidCursor
from service.http.dependencies import ExecutionsDep, OwnerDep
from service.http.path_parameters import ExecutionIdPath
from service.http.refusals import refusals
from service.routes.schemas.executions import ExecutionInfo, ExecutionList
from sessions.errors import ExecutionNotFound

router = APIRouter(prefix="/v1/executions", tags=["executions"], responses=refusals())


@router.get("", responses=refusals(InvalidCursor))
async def list_executions(
    executions: ExecutionsDep,
    owner: OwnerDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of executions in a page.")] = 100,
    after: Annotated[str | None, Query(description="`next` of the previous page.", max_length=200)] = None,
) -> ExecutionList:
    """List executions, newest first, including those that have not ended."""
    page = await executions.page(owner, limit, after)
    return ExecutionList(executions=[ExecutionInfo.of(record) for record in page.executions], next=page.next)


@router.get("/{execution_id}", responses=refusals(ExecutionNotFound))
async def get_execution(
    execution_id: ExecutionIdPath, executions: ExecutionsDep, owner: OwnerDep
) -> ExecutionInfo:
    """Return one execution by its id. It may still be running."""
    return ExecutionInfo.of(await executions.get(execution_id, owner))
