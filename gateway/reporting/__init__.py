"""Usage reports, the overview, invoices, request history, retention and alerts."""
