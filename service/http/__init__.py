"""Every HTTP request passes here: connections, body limits, keys, error answers, the access log."""
