-- Names of the accounts with a lease that has run out, longest ago first.
--
-- KEYS: meta, due. ARGV: epoch.

local now = string.format('%.6f', clock(wall()) / 1000000)
return redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
