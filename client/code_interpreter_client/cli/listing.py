"""`code-interpreter sessions` and `code-interpreter files`."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from code_interpreter_client.cli.problems import FAILED, report, sentence
from code_interpreter_client.cli.terminal import one_line
from code_interpreter_client.cli.transfers import receiving, sending
from code_interpreter_client.client import Client
from code_interpreter_client.errors import NotFound, SessionEnded
from code_interpreter_client.local_paths import path_beneath

as_json = click.option("--json", "as_json", is_flag=True, help="Print all fields as JSON.")
in_session = click.option(
    "--session", "session_id", metavar="ID", help="Use the workspace of this session, and paths in it."
)


def _show(
    items: Sequence[Any], names: Sequence[str], rows: Iterable[Sequence[str]], *, as_json: bool
) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere, or JSON."""
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(item) for item in items], indent=2))
    elif sys.stdout.isatty():
        table = Table(*names, box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*(Text(one_line(cell)) for cell in row))
        Console().print(table)
    else:
        for row in rows:
            click.echo("\t".join(one_line(cell) for cell in row))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


def _size(size_bytes: int) -> str:
    return decimal(size_bytes) if sys.stdout.isatty() else str(size_bytes)


@click.group()
def sessions() -> None:
    """List, open and end sessions."""


@sessions.command("ls")
@as_json
@click.pass_obj
def list_sessions(url: str | None, as_json: bool) -> None:
    """List the open sessions."""
    with Client(url) as client:
        found = client.list_sessions()
    rows = [
        (session.session_id, session.state, str(session.execution_count), _time(session.expires_at))
        for session in found
    ]
    _show(found, ("session", "state", "executions", "ends"), rows, as_json=as_json)


@sessions.command("new")
@click.option("--ttl", default=900, show_default=True, help="Seconds until it expires.")
@click.pass_obj
def new_session(url: str | None, ttl: int) -> None:
    """Open a session and print its id."""
    with Client(url) as client:
        click.echo(client.session(ttl=ttl).session_id)


@sessions.command("rm")
@click.argument("session_ids", nargs=-1, required=True, metavar="ID...")
@click.pass_obj
def remove_sessions(url: str | None, session_ids: tuple[str, ...]) -> int:
    """End sessions."""
    status = 0
    with Client(url) as client:
        for session_id in session_ids:
            try:
                client.attach(session_id).delete()
            except (NotFound, SessionEnded) as error:
                report(sentence(error))
                status = FAILED
    return status


@click.group()
def files() -> None:
    """List, upload, download and delete stored files, or files of a session (--session)."""


@files.command("ls")
@in_session
@as_json
@click.pass_obj
def list_files(url: str | None, session_id: str | None, as_json: bool) -> None:
    """List files."""
    with Client(url) as client:
        if session_id:
            listed = client.attach(session_id).list_files()
            paths = [(file.path, _size(file.size_bytes), _time(file.modified_at)) for file in listed]
            _show(listed, ("path", "size", "changed"), paths, as_json=as_json)
        else:
            stored = client.list_files()
            rows = [
                (file.file_id, file.filename, _size(file.size_bytes), _time(file.expires_at))
                for file in stored
            ]
            _show(stored, ("file", "name", "size", "expires"), rows, as_json=as_json)


@files.command("put")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@in_session
@click.option("--as", "name", metavar="PATH", help="Name for the uploaded file; with one FILE only.")
@click.pass_obj
def put_files(url: str | None, paths: tuple[Path, ...], session_id: str | None, name: str | None) -> None:
    """Upload files, and print the id of each, or its path in the session."""
    if name is not None and len(paths) > 1:
        raise click.UsageError("--as works with one file only.")
    with Client(url) as client:
        session = client.attach(session_id) if session_id else None
        for path in paths:
            with sending(path) as content:
                if session is not None:
                    click.echo(one_line(session.upload(name or path.name, content).path))
                else:
                    click.echo(client.upload(content, name=name or path.name).file_id)


@files.command("get")
@click.argument("names", nargs=-1, required=True, metavar="ID|PATH...")
@in_session
@click.option(
    "--out", default=Path(), type=click.Path(path_type=Path, file_okay=False), help="Folder to save them in."
)
@click.pass_obj
def get_files(url: str | None, names: tuple[str, ...], session_id: str | None, out: Path) -> None:
    """Download files by their ids, or by their paths in a session, and print the local paths."""
    with Client(url) as client:
        session = client.attach(session_id) if session_id else None
        sizes: dict[str, tuple[str, int]] = {}
        if session is not None:
            sizes = {file.path: (file.path, file.size_bytes) for file in session.list_files()}
        else:
            sizes = {file.file_id: (file.filename, file.size_bytes) for file in client.list_files()}
        for name in names:
            path, size = sizes.get(name, (name, None))
            target = path_beneath(out, path)
            with receiving(path, size) as progress:
                if session is not None:
                    session.download_file(name, target, progress=progress)
                else:
                    client.download_file(name, target, progress=progress)
            click.echo(one_line(str(target)))


@files.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="ID|PATH...")
@in_session
@click.pass_obj
def remove_files(url: str | None, names: tuple[str, ...], session_id: str | None) -> int:
    """Delete files."""
    status = 0
    with Client(url) as client:
        delete = client.attach(session_id).delete_file if session_id else client.delete_file
        for name in names:
            try:
                delete(name)
            except NotFound as error:
                report(sentence(error))
                status = FAILED
    return status
