-- Remove keys of an import that is under way. Once it is over they are everybody's: whoever was
-- slower, or missed the word that it ended well, must not take anything away.
--
-- KEYS: meta, then those keys. ARGV: epoch.

if redis.call('HEXISTS', meta, 'importing') == 0 then
    return redis.error_reply('IMPORT over')
end
return redis.call('UNLINK', unpack(KEYS, 2))
