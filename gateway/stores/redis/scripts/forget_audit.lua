#!lua flags=allow-oom
-- Delete the audit entries before a time.
--
-- KEYS: meta, audit. ARGV: epoch, the time.

return redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[2])
