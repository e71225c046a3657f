"""The Model Context Protocol, with clients of its world."""
