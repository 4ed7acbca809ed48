#!lua flags=allow-oom
-- Delete the usage of some hours.
--
-- KEYS: meta, hours, packed, then every key of these hours. ARGV: epoch, the first hour, the last.

redis.call('ZREMRANGEBYSCORE', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[3], ARGV[2], ARGV[3])
return redis.call('UNLINK', unpack(KEYS, 4))
