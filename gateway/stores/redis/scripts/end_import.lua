-- Let gateways in to what was imported.
--
-- KEYS: meta. ARGV: epoch.

return redis.call('HDEL', meta, 'importing')
