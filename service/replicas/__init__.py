"""Which sessions this service holds: all of them, or those of one replica with a lease."""
