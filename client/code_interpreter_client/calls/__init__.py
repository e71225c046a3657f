"""The calls of the service's API: what each sends, and how its answer is read. No I/O happens here.

Each call is a flow (see `http.exchange`). `Client` and `AsyncClient` have the calls as methods, with the
same arguments and docstrings.
"""
