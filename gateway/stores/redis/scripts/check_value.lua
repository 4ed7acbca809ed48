#!lua flags=allow-oom
-- Keep the first value under a name, and return the one that is kept.
--
-- KEYS: meta. ARGV: epoch, the name, the value.

local field = 'check:' .. ARGV[2]
redis.call('HSETNX', meta, field, ARGV[3])
return redis.call('HGET', meta, field)
