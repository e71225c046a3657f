"""Opens the storage that the settings name."""

from service.files.disk import Disk, make_folder
from service.files.object_storage import ObjectStorage
from service.files.storage import Storage
from service.settings.storage import StorageSettings


def open_storage(settings: StorageSettings) -> Storage:
    """Return the storage of stored files. Raises a ``StartError`` if it cannot be used."""
    if settings.file_storage_url is None:
        return Disk(settings.file_storage_dir)
    if settings.database_url is None:
        # The registry is in this folder even if the files are not.
        make_folder(settings.file_storage_dir)
    return ObjectStorage(settings.file_storage_url, settings.aws_endpoint_url, settings.file_storage_link_sec)
