"""Stores: where budgets, teams, keys and the usage history live."""
