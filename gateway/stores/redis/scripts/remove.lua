#!lua flags=allow-oom
-- Remove keys of a running import. After its end they belong to the gateways: an importer that was
-- slow, or missed the reply to its last step, must not remove anything.
--
-- KEYS: meta, then those keys. ARGV: epoch.

if redis.call('HEXISTS', meta, 'importing') == 0 then
    return redis.error_reply('IMPORT over')
end
return redis.call('UNLINK', unpack(KEYS, 2))
