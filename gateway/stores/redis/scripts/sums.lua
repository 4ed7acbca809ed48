-- Hashes that hold usage or the like, as they stand together.
--
-- KEYS: meta, then the hashes. ARGV: epoch; then, where they are not wanted whole: of how many of
-- them, from the first on, only some fields are, and those fields. Returns for each hash its fields
-- and values, or those values.

local some = tonumber(ARGV[2] or '0')

local reply = {}
for place = 2, #KEYS do
    if place - 1 <= some then
        reply[place - 1] = redis.call('HMGET', KEYS[place], unpack(ARGV, 3))
    else
        reply[place - 1] = redis.call('HGETALL', KEYS[place])
    end
end
return reply
