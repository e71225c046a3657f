"""The tests: real containers, real kernels, a real SQLite file, real HTTP."""
