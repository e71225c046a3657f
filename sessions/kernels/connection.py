"""How a container's supervisor and kernel are reached."""

from dataclasses import dataclass, field

from sessions.kernels.certificate_pin import CertificatePin
from sessions.models import Container


@dataclass(frozen=True)
class Connection:
    """All that is needed to talk to a container's supervisor and kernel, also after a restart."""

    container: Container
    token: str
    kernel_key: str
    seal: CertificatePin | None = field(default=None, compare=False, repr=False)
    """What is known of the container's certificate, where it is spoken to in TLS."""
