"""`code-interpreter-api doctor`: looks at all that the service stands on, and says what helps.

What was found and what is made of it are apart: the judging functions are pure.
"""
