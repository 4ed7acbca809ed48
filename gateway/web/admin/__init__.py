"""The admin port: API, sessions, documentation and dashboard."""
