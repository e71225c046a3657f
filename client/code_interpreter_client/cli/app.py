"""The command `code-interpreter`. Each subcommand has a module of its own."""

import sys

import click

from code_interpreter_client.cli import image, listing, mcp, problems, run, shell
from code_interpreter_client.cli.problems import Problem, report
from code_interpreter_client.configuration import DEFAULT_URL
from code_interpreter_client.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help=f"Address of the service. Default: CODE_INTERPRETER_URL, or {DEFAULT_URL}.")
@click.version_option(__version__, prog_name="code-interpreter")
@click.pass_context
def command(context: click.Context, url: str | None) -> None:
    """Run Python in a self-hosted code interpreter.

    The API key, if the service needs one, is read from CODE_INTERPRETER_API_KEY.
    """
    context.obj = url


command.add_command(run.run)
command.add_command(shell.shell)
command.add_command(listing.sessions)
command.add_command(listing.files)
command.add_command(image.image)
command.add_command(mcp.mcp)


def run_command(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status. Only a bug in this program prints a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = command.main(arguments, prog_name="code-interpreter", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return problems.INTERRUPTED
    except Problem as problem:
        report(problem.message)
        return problem.status
    except click.UsageError as error:
        hint = f" See '{error.ctx.command_path} --help'." if error.ctx else ""
        report(error.format_message() + hint)
        return error.exit_code
    except click.ClickException as error:
        report(error.format_message())
        return error.exit_code
    except problems.EXPECTED as error:
        report(problems.sentence(error))
        return problems.FAILED
    return status if isinstance(status, int) else 0
