"""Leave connections that each side has closed. On pods they keep their ports for a while."""

import socket

for number in range(20):
    listener = socket.create_server(("127.0.0.1", 5600 + number))
    client = socket.create_connection(listener.getsockname(), source_address=("127.0.0.1", 5700 + number))
    server, _ = listener.accept()
    for one in (client, server) if number % 2 else (server, client):
        one.close()
