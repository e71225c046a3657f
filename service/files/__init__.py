"""Stored files: their rows, their bytes and the quota of each key."""
