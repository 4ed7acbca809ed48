"""Usage reports, request history and alerts."""
