-- Remove keys.
--
-- KEYS: meta, then those keys. ARGV: epoch.

return redis.call('UNLINK', unpack(KEYS, 2))
