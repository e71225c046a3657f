"""The storage that the settings name."""

from service.files.disk import Disk, make_folder
from service.files.object_storage import ObjectStorage
from service.files.storage import Storage
from service.settings.storage import StorageSettings


def open_storage(settings: StorageSettings) -> Storage:
    """Where stored files are. Raises a ``StartError`` if that cannot be used."""
    if settings.file_storage_url is None:
        return Disk(settings.file_storage_dir)
    if settings.database_url is None:
        # The registry is there all the same.
        make_folder(settings.file_storage_dir)
    return ObjectStorage(settings.file_storage_url, settings.aws_endpoint_url, settings.file_storage_link_sec)
