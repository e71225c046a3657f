"""`python -m service`: serves; with a command, does that instead."""

import argparse
import sys

from service import server
from service.doctor import command as doctor
from service.operations import backup


def main() -> None:
    """Do what the arguments say; without any, serve."""
    parser = argparse.ArgumentParser("python -m service", description="The code interpreter.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve; what happens without a command, too")
    doctor.add_arguments(commands.add_parser("doctor", help="look at all that the service stands on"))
    backup.add_arguments(commands.add_parser("backup", help="copy registry and files while it serves"))
    arguments = parser.parse_args()
    if arguments.command == "doctor":
        sys.exit(doctor.main(arguments))
    if arguments.command == "backup":
        sys.exit(backup.main(arguments))
    server.main()


if __name__ == "__main__":
    main()
