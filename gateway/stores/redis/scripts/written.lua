#!lua flags=allow-oom
-- Return which purchases are kept by id: 1 or 0 for each.
--
-- KEYS: meta, then for each purchase those of its hour. ARGV: epoch, then their ids.

local reply = {}
for place = 2, #KEYS do
    reply[place - 1] = redis.call('HEXISTS', KEYS[place], ARGV[place])
end
return reply
