"""The process: building the gateway from its settings, running and stopping it."""
