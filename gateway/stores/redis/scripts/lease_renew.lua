#!lua flags=allow-oom
-- Extend the leases KEYS of the holders ARGV[2..] to ARGV[1] milliseconds from now, also those that
-- have expired. Returns the places of those that another gateway holds.

local lost = {}
for place, lease in ipairs(KEYS) do
    local mine = ARGV[place + 1]
    local holder = redis.call('HGET', lease, 'holder')
    if holder and holder ~= mine then
        lost[#lost + 1] = place
    else
        redis.call('HSET', lease, 'holder', mine)
        redis.call('PEXPIRE', lease, ARGV[1])
    end
end
return lost
