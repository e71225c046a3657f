"""The command line: `code-interpreter`. It needs the extra `cli`."""
