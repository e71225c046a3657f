"""HTTP: requests and answers, what is retried, and how bodies are sent and read."""
