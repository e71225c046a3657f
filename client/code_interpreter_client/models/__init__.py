"""What the service answers, as frozen dataclasses. Times are seconds since the epoch, sizes are bytes."""
