"""The lock on the folder of the stored files."""

import logging
from pathlib import Path

import pytest

from service.files.errors import StorageInUse
from service.files.storage_lock import lock


async def test_waiting_for_a_folder_in_use_is_reported_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the folder before the wait ends. The error follows if the other service goes on."""
    path, in_use = tmp_path / "lock", StorageInUse(tmp_path)
    with caplog.at_level(logging.WARNING):
        async with lock(path, in_use):
            assert caplog.text == ""
            with pytest.raises(StorageInUse):
                async with lock(path, in_use, wait_sec=0.5):
                    pass
    assert caplog.text.count(f"FILE_STORAGE_DIR={tmp_path}") == 1
    assert "Waiting up to" in caplog.text
