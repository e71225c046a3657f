"""What runs in the service's container before and around the service. Standard library only."""
