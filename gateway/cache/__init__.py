"""Cached answers: memory, Redis, and what keeps them correct."""
