-- The usage sums of some hours, or other hashes.
--
-- KEYS: meta, then the hours' sums. ARGV: epoch. Returns for each hour its fields and numbers.

local reply = {}
for place = 2, #KEYS do
    reply[place - 1] = redis.call('HGETALL', KEYS[place])
end
return reply
