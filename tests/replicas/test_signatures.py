"""What replicas tell each other of a caller is believed for that call, and for as long as a lease."""

import pytest

from service.http.signatures import Signer, Stale
from sessions.models import Caller

ANN = Caller("ann", "tenant of ann")
PATH = "/v1/sessions/x/execute?images=ref"


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as a server has them."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def test_who_was_let_in_by_one_is_known_to_the_other() -> None:
    """By the same secret; without such headers nobody is."""
    told = Signer("the same secret", 10).headers(ANN, "POST", PATH)
    assert Signer("the same secret", 10).caller(raw(told), "POST", PATH) == ANN
    assert Signer("the same secret", 10).caller([], "POST", PATH) is None


@pytest.mark.parametrize(
    ("secret", "method", "path"),
    [("another secret", "POST", PATH), ("secret", "DELETE", PATH), ("secret", "POST", "/v1/files")],
)
def test_a_signature_is_of_one_secret_and_one_call(secret: str, method: str, path: str) -> None:
    """For another it is nobody's."""
    told = Signer("secret", 10).headers(ANN, "POST", PATH)
    assert Signer(secret, 10).caller(raw(told), method, path) is None


@pytest.mark.parametrize("odd", ["", "é", "W10=", "{}", "0" * 10_000])
def test_odd_headers_are_nobodys(odd: str) -> None:
    """Whatever they are, no error comes of them."""
    for name in ("x-replica-caller", "x-replica-signature"):
        told = Signer("secret", 10).headers(ANN, "POST", PATH) | {name: odd}
        assert Signer("secret", 10).caller(raw(told), "POST", PATH) is None


def test_a_call_that_comes_late_is_refused() -> None:
    """Whoever passed it on has given it up: running it now could run it twice."""
    signer = Signer("secret", -1)
    with pytest.raises(Stale):
        signer.caller(raw(signer.headers(ANN, "POST", PATH)), "POST", PATH)
