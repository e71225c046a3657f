"""Bringing a used container back to its first state, and proving that it is there."""
