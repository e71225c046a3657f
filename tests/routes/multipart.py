"""Bodies of uploads, written by hand."""

from collections.abc import Iterator

BOUNDARY = "boundary-of-the-test"

MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(content: bytes, disposition: bytes, headers: bytes = b"") -> bytes:
    """Return one part of a multipart body, with its leading boundary."""
    start = f"--{BOUNDARY}\r\n".encode()
    head = b"Content-Disposition: form-data; " + disposition + headers
    return start + head + b"\r\n\r\n" + content


def body(*parts: bytes) -> bytes:
    """Return a whole multipart body."""
    return b"".join(piece + b"\r\n" for piece in parts) + f"--{BOUNDARY}--\r\n".encode()


def streamed(size: int, piece: bytes = b"x" * 65536) -> Iterator[bytes]:
    """Yield a multipart body with a file of ``size`` bytes, without holding it in memory."""
    yield part(b"", b'name="file"; filename="big.bin"')
    while size:
        now = min(size, len(piece))
        yield piece[:now]
        size -= now
    yield f"\r\n--{BOUNDARY}--\r\n".encode()
