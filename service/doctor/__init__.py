"""`code-interpreter-api doctor`: checks everything that the service needs, and says how to repair what fails.

Facts are gathered and judged in separate functions; the judging ones are pure.
"""
