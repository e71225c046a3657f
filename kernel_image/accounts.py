"""Adds a user and a group for each of `contract.USER_IDS`. Run as root by the image's build."""

from pathlib import Path

from kernel_image import contract

_PASSWD = Path("/etc/passwd")
_GROUP = Path("/etc/group")
_ID_FIELD = 2


def _add(file: Path, after_id: str) -> None:
    """Append a line for each id, with the fields `after_id`. Leave out the ids that the base has named."""
    text = file.read_text()
    named = {line.split(":")[_ID_FIELD] for line in text.splitlines() if line.count(":") >= _ID_FIELD}
    missing = [number for number in contract.USER_IDS if str(number) not in named]
    lines = [f"{contract.user_name(number)}:x:{number}:{after_id.format(number)}\n" for number in missing]
    file.write_text("".join([text, "" if text.endswith("\n") else "\n", *lines]))


if __name__ == "__main__":
    _add(_PASSWD, f"{{}}:user:{contract.HOME}:/bin/sh")
    _add(_GROUP, "")
