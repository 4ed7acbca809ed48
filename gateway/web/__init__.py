"""The edge: HTTP in, HTTP out. Errors raised anywhere below are rendered here, once."""
