#!lua flags=allow-oom
-- Read some hashes, as of one moment.
--
-- KEYS: meta, then the hashes. ARGV: epoch; then, to read only some fields of the first hashes, the
-- number of these and the fields. Returns for each hash its fields and values, or the values alone.

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
