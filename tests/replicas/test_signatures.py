"""Tests of the signed headers by which a replica forwards the caller of one call."""

import pytest

from service.http.signatures import Signer, Stale
from sessions.models import Caller

ANN = Caller("ann", "tenant of ann")
PATH = "/v1/sessions/x/execute?images=ref"


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers as a server receives them."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def test_a_caller_accepted_by_one_replica_is_known_to_the_other() -> None:
    """Both replicas have the same secret. Without such headers no caller is known."""
    signed = Signer("the same secret", 10).headers(ANN, "POST", PATH)
    assert Signer("the same secret", 10).caller(raw(signed), "POST", PATH) == ANN
    assert Signer("the same secret", 10).caller([], "POST", PATH) is None


@pytest.mark.parametrize(
    ("secret", "method", "path"),
    [("another secret", "POST", PATH), ("secret", "DELETE", PATH), ("secret", "POST", "/v1/files")],
)
def test_a_signature_is_valid_for_one_secret_and_one_call(secret: str, method: str, path: str) -> None:
    """With another secret or for another call the headers are ignored."""
    signed = Signer("secret", 10).headers(ANN, "POST", PATH)
    assert Signer(secret, 10).caller(raw(signed), method, path) is None


@pytest.mark.parametrize("value", ["", "é", "W10=", "{}", "0" * 10_000])
def test_malformed_headers_are_ignored(value: str) -> None:
    """Malformed headers identify no caller and raise no error."""
    for name in ("x-replica-caller", "x-replica-signature"):
        signed = Signer("secret", 10).headers(ANN, "POST", PATH) | {name: value}
        assert Signer("secret", 10).caller(raw(signed), "POST", PATH) is None


def test_a_late_call_is_refused() -> None:
    """The forwarding replica has given the call up, and running it now could run it twice."""
    signer = Signer("secret", -1)
    with pytest.raises(Stale):
        signer.caller(raw(signer.headers(ANN, "POST", PATH)), "POST", PATH)
