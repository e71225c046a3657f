"""The service's answers as frozen dataclasses. Times are seconds since the epoch, sizes are bytes."""
