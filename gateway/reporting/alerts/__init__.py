"""Alerts: which conditions raise one, and how webhooks deliver it."""
