"""The text that the service prints when it is up: its address, and a command to try."""

import service

# The command has this body in single quotes.
_EXAMPLE = r'{"code": "import pandas as pd\npd.DataFrame({\"n\": [1, 2]}) * 21"}'

_ANY_ADDRESS = {"0.0.0.0", "::", ""}


def banner(host: str, port: int, *, reuse: str = "", needs_key: bool = False) -> str:
    """Return the text. If the server listens on all addresses, the text shows the loopback address.

    ``reuse`` is a sentence about the reuse of containers, or empty.
    """
    address = base_url(host, port)
    everywhere = " (on all addresses)" if host in _ANY_ADDRESS else ""
    headers = "-H 'Content-Type: application/json'"
    if needs_key:
        headers += ' -H "X-API-Key: $KEY"'
    about = f"  {reuse}\n" if reuse else ""
    return f"""
  Code Interpreter {service.__version__} is up at {address}{everywhere}
  A notebook to try it in: {address}/
  API documentation: {address}/docs
{about}  Try it:

curl -s {address}/v1/execute {headers} -d '{_EXAMPLE}'
"""


def base_url(host: str, port: int) -> str:
    """Return the URL that a client on this machine can use."""
    if host in _ANY_ADDRESS:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
