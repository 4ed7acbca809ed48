"""Cached answers: in memory and in Redis, with purges on all replicas."""
