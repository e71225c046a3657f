"""The HTTP routes, one module for each subject. A route converts between HTTP and the domain."""
