#!lua flags=allow-oom
-- Return the names of the accounts with an expired lease, the earliest expiry first.
--
-- KEYS: meta, due. ARGV: epoch.

local now = string.format('%.6f', clock(wall()) / 1000000)
return redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
