#!lua flags=allow-oom
-- Delete the records of operations that have ended. Where more than ARGV[2] are left, delete those
-- that are expendable, too: the oldest that cost nothing, then the oldest that were bought. At most
-- ARGV[3] are deleted; returns 1 if these may not be all, else 0.
--
-- KEYS: meta, operations, operation_ends, operations_bought. ARGV: epoch, see above.

local function forget(names)
    for _, name in ipairs(names) do
        redis.call('HDEL', KEYS[2], name)
        redis.call('ZREM', KEYS[3], name)
        redis.call('ZREM', KEYS[4], name)
    end
    return #names
end

local now = string.format('%.6f', clock(wall()) / 1000000)
local room = tonumber(ARGV[3])
room = room - forget(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, room))
local surplus = math.min(redis.call('HLEN', KEYS[2]) - ARGV[2], room)
if surplus > 0 then
    room = room - forget(redis.call('ZRANGE', KEYS[4], 0, surplus - 1))
end
return room == 0 and 1 or 0
