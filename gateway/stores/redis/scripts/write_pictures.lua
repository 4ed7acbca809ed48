#!lua
-- Write which purchases bought pictures. A repetition changes nothing.
--
-- KEYS: meta, then the key of each picture. ARGV: epoch; for each picture the purchase, its record,
-- and when that may be forgotten, in seconds since 1970. Returns 1.

for place = 2, #KEYS do
    local key, at = KEYS[place], 2 + (place - 2) * 3
    local ends = tonumber(ARGV[at + 2])
    local left = redis.call('PTTL', key)
    redis.call('HSET', key, ARGV[at], ARGV[at + 1])
    -- A key keeps all its purchases until the last of them may be forgotten.
    if left < 0 or ends * 1000 > math.floor(wall() / 1000) + left then
        redis.call('EXPIREAT', key, ARGV[at + 2])
    end
end
return 1
