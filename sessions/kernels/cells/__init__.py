"""The events of one cell: its text, its displays, its requests for input, its end and its result."""
