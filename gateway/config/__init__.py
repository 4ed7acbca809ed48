"""Configuration: reading, checking and describing gateway.toml, the environment and teams.toml."""
