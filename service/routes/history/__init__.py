"""The history of a session as JSON and as a notebook, one piece of its texts in memory at a time."""
