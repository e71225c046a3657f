"""What the database stores, by subject: containers, executions, files, replicas, sessions and their cells."""
