"""The command `code-interpreter`; also `python -m code_interpreter_client`."""

import sys


def main() -> None:
    """Run the command line. If a package that it needs is missing, say which and exit with status 1."""
    try:
        from code_interpreter_client.cli.app import run_command  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("click", "rich", "prompt_toolkit", "pygments"):
            raise
        sys.exit(
            f"code-interpreter: the command line needs {missing.name}: "
            "pip install 'code-interpreter-client[cli]'"
        )
    sys.exit(run_command())


if __name__ == "__main__":
    main()
