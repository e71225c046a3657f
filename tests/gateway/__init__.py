"""The Jupyter gateway: its wire, its channels, who may use them, real clients, and those that mean harm."""
