"""Caches: aiocache backends for bought answers."""
