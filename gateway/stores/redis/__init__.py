"""The store and the cache that several gateways share: Redis, a cluster of it, or Valkey."""

from gateway.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
