#!lua flags=allow-oom
-- Delete the usage of some hours, and the records of purchases up to them.
--
-- KEYS: meta, hours, packed, unknown, unknown_at, then every key of these hours. ARGV: epoch, the
-- first hour, the last, the time in seconds when that ends.

redis.call('ZREMRANGEBYSCORE', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[3], ARGV[2], ARGV[3])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', '(' .. ARGV[4])) do
    redis.call('HDEL', KEYS[4], id)
end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', '(' .. ARGV[4])
return redis.call('UNLINK', unpack(KEYS, 6))
