"""`code-interpreter image build`: runs `kernel_image/build` of a checkout and shows its progress."""

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from code_interpreter_client.cli.problems import Problem
from code_interpreter_client.cli.terminal import one_line

_BUILD: Final = Path("kernel_image/build")
_STAGE: Final = re.compile(r"== (?P<text>.+)")
_STEP: Final = re.compile(
    r"(?:Step (?P<at>\d+)/(?P<of>\d+) :|#\d+ \[[^\]]*?(?P<at2>\d+)/(?P<of2>\d+)\]) *(?P<text>.*)"
)
_LAST_LINES: Final = 15


@click.group()
def image() -> None:
    """Build the image that kernels run in."""


@image.command()
@click.option("--tag", help="Name of the image. Default: IMAGE, or the service's default.")
def build(tag: str | None) -> None:
    """Build the kernel image. Run this in a checkout of the code interpreter."""
    script = _script()
    named = ["env", f"IMAGE={tag}"] if tag else []
    with subprocess.Popen(
        [*named, str(script)],
        cwd=script.parents[1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        last = _follow(process.stdout)
    if process.returncode:
        for line in last:
            click.echo(line, err=True)
        raise Problem(f"{_BUILD} failed with exit status {process.returncode}", process.returncode)


def _script() -> Path:
    """Return the build script of the checkout that contains the current folder."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if os.access(folder / _BUILD, os.X_OK):
            return folder / _BUILD
    raise Problem(f"No {_BUILD} was found; run this in a checkout of the code interpreter.")


def _follow(lines: Iterable[str]) -> deque[str]:
    """Show the steps of the build, and return its last lines if they have not been printed."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        for line in lines:
            last.append(line.rstrip("\n"))
            click.echo(line.rstrip("\n"))
        return deque()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("kernel image", total=None)
        for line in lines:
            text = one_line(line.rstrip("\n"))
            last.append(text)
            _show(bar, task, text)
        bar.update(task, total=1, completed=1, description="kernel image")
    return last


def _show(bar: Progress, task: TaskID, text: str) -> None:
    if stage := _STAGE.fullmatch(text):
        bar.console.print(escape(stage["text"]))
        bar.reset(task, total=None, description=escape(stage["text"][:50]))
    elif step := _STEP.match(text):
        at, of = (int(step[name] or step[f"{name}2"]) for name in ("at", "of"))
        bar.update(task, completed=at, total=of, description=escape(f"step {at}/{of}: {step['text'][:40]}"))
        # Cached steps are faster than the bar's own refresh.
        bar.refresh()
