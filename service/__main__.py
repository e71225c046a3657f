"""The program ``code-interpreter-api``, which runs the service or another command."""

import gc
import os
import sys
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from importlib import import_module
from typing import Final

PROGRAM: Final = "code-interpreter-api"

COMMANDS: Final = {
    "serve": ("service.server", "run the service; the default"),
    "doctor": ("service.doctor.command", "check everything that the service needs"),
    "backup": ("service.operations.backup", "copy the registry and the stored files while the service runs"),
    "restore": ("service.operations.restore", "restore a backup"),
    "keys": ("service.auth.command", "create, replace, remove and list API keys"),
}
"""The module and the help text of each command.

Only the module of the chosen command is imported, because most of the imports take seconds.
"""


def main() -> None:
    """Run the chosen command, and exit with its status."""
    lines = [f"  {name:9}{text}" for name, (_, text) in COMMANDS.items()]
    parser = ArgumentParser(
        PROGRAM,
        usage=f"{PROGRAM} [-h] [COMMAND ...]",
        description="A service that runs untrusted Python in locked-down containers.",
        epilog="\n".join(["commands:", *lines, "", f"`{PROGRAM} COMMAND -h` shows its arguments."]),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=COMMANDS,
        default="serve",
        metavar="COMMAND",
        help="one of the commands below",
    )
    parser.add_argument("arguments", nargs=REMAINDER, help="the arguments of the command")
    chosen = parser.parse_args()
    module_name, text = COMMANDS[chosen.command]
    # Imports leave hardly any garbage, and looking for it takes a quarter of their time.
    gc.disable()
    module = import_module(module_name)
    gc.enable()
    # Other users of the machine may not read files that a command creates.
    os.umask(0o077)
    own_parser = ArgumentParser(f"{PROGRAM} {chosen.command}", description=f"{text[0].upper()}{text[1:]}.")
    module.add_arguments(own_parser)
    sys.exit(module.main(own_parser.parse_args(chosen.arguments)))


if __name__ == "__main__":
    main()
