"""The HTTP server: connections, time limits for slow clients, request ids, the access log, the banner."""
