"""One execution: its inputs, its events, and the files that it leaves."""
