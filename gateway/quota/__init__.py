"""Budgets: pure steps over frozen accounts, and the ledger that applies them to a store."""
