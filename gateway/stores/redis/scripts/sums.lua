-- Hashes that hold usage, as they stand together.
--
-- KEYS: meta, then the hashes. ARGV: epoch; of how many of them, from the first on, only some
-- fields are wanted; those fields. Returns for each hash its fields and values, or those values.

local some = tonumber(ARGV[2])

local reply = {}
for place = 2, #KEYS do
    if place - 1 <= some then
        reply[place - 1] = redis.call('HMGET', KEYS[place], unpack(ARGV, 3))
    else
        reply[place - 1] = redis.call('HGETALL', KEYS[place])
    end
end
return reply
