"""The HTTP layer of the service: connections, body limits, API keys, error responses, the access log."""
