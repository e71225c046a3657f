"""What the behaviour tests share: the service as a process, its API, its events, the engine."""
