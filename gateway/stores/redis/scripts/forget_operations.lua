#!lua flags=allow-oom
-- Delete the records of operations that have ended. Where more than ARGV[2] are left, delete the
-- oldest that are bought, too. At most ARGV[3] are deleted.
--
-- KEYS: meta, operations, operation_ends, operations_bought. ARGV: epoch, see above.

local now = string.format('%.6f', clock(wall()) / 1000000)
local room = tonumber(ARGV[3])
local over = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, room)
local surplus = redis.call('HLEN', KEYS[2]) - #over - ARGV[2]
surplus = math.min(surplus, room - #over)
if surplus > 0 then
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now, '+inf', 'LIMIT', 0, surplus)) do
        over[#over + 1] = name
    end
end
for _, name in ipairs(over) do
    redis.call('HDEL', KEYS[2], name)
    redis.call('ZREM', KEYS[3], name)
    redis.call('ZREM', KEYS[4], name)
end
return 1
