#!lua flags=allow-oom
-- Read the claims that have not ended, those that end last first.
--
-- KEYS: meta, claims, claim_ends. ARGV: epoch. Returns for each its name, its end in microseconds
-- and the claim.

local now = clock(wall())
local found = redis.call(
    'ZREVRANGEBYSCORE', KEYS[3], '+inf', '(' .. whole(now), 'WITHSCORES', 'LIMIT', 0, 10000
)
local reply = {}
for place = 1, #found, 2 do
    reply[#reply + 1] = found[place]
    reply[#reply + 1] = found[place + 1]
    reply[#reply + 1] = redis.call('HGET', KEYS[2], found[place])
end
return reply
