"""The start-up self-test, and the checks of each limit."""
