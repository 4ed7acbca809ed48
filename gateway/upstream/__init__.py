"""The paid API: the client that buys from it, and a sandbox that stands in for it."""
