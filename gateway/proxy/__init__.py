"""One request from the public port: its path, its policy, its purchase."""
