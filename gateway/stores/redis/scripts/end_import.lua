#!lua flags=allow-oom
-- End an import: gateways may use the store from now on.
--
-- KEYS: meta. ARGV: epoch.

return redis.call('HDEL', meta, 'importing')
