"""API keys: the keyring, the limits of each key, and the command that manages keys."""
