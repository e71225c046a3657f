"""JSON bodies of stored files. Times are seconds since the epoch."""

from typing import Self

from pydantic import BaseModel, Field

from service.http.values import FILE_ID, FileId
from sessions.records import StoredFile

_SHA256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"


class StoredFileInfo(BaseModel):
    """A stored file."""

    file_id: FileId
    filename: str = Field(description="Name of the file, as the client sent it.", examples=["sales.csv"])
    size_bytes: int = Field(description="Size of the file, in bytes.", examples=[18_204])
    upload_time: float = Field(description="When the file was stored.", examples=[1_767_225_600.25])
    sha256: str = Field(description="SHA-256 of the content, in hexadecimal.", examples=[_SHA256])
    media_type: str = Field(
        description="Media type, as the client sent it, or guessed from the name.", examples=["text/csv"]
    )
    expires_at: float | None = Field(
        description="When the file will be deleted; null: never.", examples=[1_767_229_200.25]
    )

    @classmethod
    def of(cls, stored: StoredFile) -> Self:
        """Return the wire form of a stored file."""
        return cls(
            file_id=stored.file_id,
            filename=stored.filename,
            size_bytes=stored.size_bytes,
            upload_time=stored.created_at,
            sha256=stored.sha256,
            media_type=stored.media_type,
            expires_at=stored.expires_at,
        )


class FileList(BaseModel):
    """One page of stored files, oldest first."""

    files: list[StoredFileInfo] = Field(
        description="The files of this page.",
        examples=[
            [
                {
                    "file_id": FILE_ID,
                    "filename": "sales.csv",
                    "size_bytes": 18_204,
                    "upload_time": 1_767_225_600.25,
                    "sha256": _SHA256,
                    "media_type": "text/csv",
                    "expires_at": 1_767_229_200.25,
                }
            ]
        ],
    )
    next: str | None = Field(
        description="Value of `after` for the next page; null on the last page.",
        examples=[None],
    )
