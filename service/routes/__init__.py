"""The HTTP routes, one module a subject. They translate; the work is done elsewhere."""
