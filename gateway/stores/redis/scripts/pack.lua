#!lua
-- Move sums of an hour into packs, or do nothing where a pack has changed since it was read.
--
-- KEYS: meta, hours, packed, the hour's sums, the packs of its hour, its day and its week.
-- ARGV: epoch, the schema that has packs, the hour; for each pack the version that was read ("" for
-- none), the number of fields to write, and fields and values; then fields of the sums and the
-- numbers to add, which subtract what has moved.
-- Returns 1, or 0 where nothing was done.

local place = 2

local function take()
    place = place + 1
    return ARGV[place - 1]
end

local schema, hour = take(), take()
local writing = {}
for number = 1, 3 do
    if (redis.call('HGET', KEYS[4 + number], 'version') or '') ~= take() then
        return 0
    end
    local last = place + 2 * tonumber(ARGV[place])
    writing[number] = {first = place + 1, last = last}
    place = last + 1
end

for number, pack in ipairs(writing) do
    local key = KEYS[4 + number]
    for name = pack.first, pack.last, 2 do
        redis.call('HSET', key, ARGV[name], ARGV[name + 1])
    end
    redis.call('HINCRBY', key, 'version', 1)
end

for field = place, #ARGV, 2 do
    if redis.call('HINCRBY', KEYS[4], ARGV[field], ARGV[field + 1]) == 0 then
        redis.call('HDEL', KEYS[4], ARGV[field])
    end
end

redis.call('ZADD', KEYS[3], hour, hour)
-- Another gateway may have moved some of these sums after they were read. They are moved twice
-- then, and negative sums are left here, which correct that.
if redis.call('EXISTS', KEYS[4]) == 1 then
    redis.call('ZADD', KEYS[2], hour, hour)
else
    redis.call('ZREM', KEYS[2], hour)
end
redis.call('HSET', meta, 'schema', schema)
return 1
