-- Forget recent requests and latency of before these times; errors go by themselves.
--
-- KEYS: meta, latency, then the rings. ARGV: epoch, the hour since 1970 of the first latency that
-- stays, what the places of the first requests that stay begin with.

for _, hour in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(hour) < tonumber(ARGV[2]) then
        redis.call('HDEL', KEYS[2], hour)
    end
end
for ring = 3, #KEYS do
    redis.call('ZREMRANGEBYLEX', KEYS[ring], '-', '(' .. ARGV[3])
end
return 'ok'
