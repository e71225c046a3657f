"""What is needed to reach a container's supervisor and kernel."""

from dataclasses import dataclass, field

from sessions.kernels.certificate_pin import CertificatePin
from sessions.models import Container


@dataclass(frozen=True)
class Connection:
    """Addresses and secrets of a container's supervisor and kernel. They survive a restart of the service."""

    container: Container
    token: str
    kernel_key: str
    certificate_pin: CertificatePin | None = field(default=None, compare=False, repr=False)
    """Set if the container's ports speak TLS."""
