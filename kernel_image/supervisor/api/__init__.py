"""The HTTP API of PID 1, which the service calls. See `application` for its routes."""
