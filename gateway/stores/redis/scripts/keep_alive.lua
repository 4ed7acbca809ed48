#!lua flags=allow-oom
-- Extend the lease of the gateway ARGV[2] to ARGV[3] seconds from now.
--
-- KEYS: meta, gateways. ARGV: epoch, the gateway, seconds, for how many seconds ended leases stay.

local now = clock(wall()) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now - ARGV[4]))
redis.call('ZADD', KEYS[2], string.format('%.6f', now + ARGV[3]), ARGV[2])
return 1
