"""What breaks around the service: processes, disks, databases, clocks, the engine."""
