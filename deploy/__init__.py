"""Programs that run in the service's container before and beside the service. Standard library only."""
