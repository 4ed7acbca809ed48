"""The events of the gateway, the record of a request, and metrics, logs and traces of both."""
