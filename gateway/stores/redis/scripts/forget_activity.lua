#!lua flags=allow-oom
-- Delete recent requests and latency from before these times. Errors expire without help.
--
-- KEYS: meta, latency, then the rings. ARGV: epoch, the first hour since 1970 whose latency stays,
-- the prefix of the places of the first requests that stay.

for _, hour in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(hour) < tonumber(ARGV[2]) then
        redis.call('HDEL', KEYS[2], hour)
    end
end
for ring = 3, #KEYS do
    redis.call('ZREMRANGEBYLEX', KEYS[ring], '-', '(' .. ARGV[3])
end
return 'ok'
