"""pip, which fails at once and says why in a sandbox, because that has no network.

The image runs this as `pip`, and as `python -m pip`. Where it runs as root, in the build of another image,
it is plain pip.
"""

import os
import sys
from typing import Final

from kernel_image import contract

_DOWNLOADS: Final = frozenset({"download", "index", "install", "search", "wheel"})
"""Commands of pip that need an index of packages."""
_NO_NETWORK: Final = """
This sandbox has no network, so pip cannot download packages. `pip list` shows what is installed.
The operator of the service can add packages to the kernel image: see docs/kernel-image.md.
"""


def main() -> int:
    """Run pip with the arguments of the command line, and return its exit status."""
    is_sandbox = os.getuid() in contract.USER_IDS
    if is_sandbox:
        # By default pip tries five times, for up to 13 s together.
        for name, value in (("RETRIES", "0"), ("TIMEOUT", "1"), ("DISABLE_PIP_VERSION_CHECK", "1")):
            os.environ.setdefault(f"PIP_{name}", value)
    from pip._internal.cli.main import main as run_pip  # noqa: PLC0415 it reads the environment

    status = int(run_pip())
    if status and is_sandbox and _DOWNLOADS.intersection(sys.argv[1:]):
        print(_NO_NETWORK, file=sys.stderr, end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
