#!lua flags=allow-oom
-- Read what was written to the directory after a generation.
--
-- KEYS: meta, changed, teams, keys, states, ends. ARGV: epoch, the generation.
-- Returns the time, the present generation, 1 where these are all teams and keys, the teams, and
-- for each key three values: the key, its state, its grace end (false for none).

local bounds = redis.call('HMGET', meta, 'generation', 'born')
local since, all = tonumber(ARGV[2]), 0
if since < tonumber(bounds[2]) or since > tonumber(bounds[1]) then
    since, all = 0, 1
end

local teams, keys = {}, {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. whole(since), '+inf')) do
    local kind, name = string.sub(member, 1, 2), string.sub(member, 3)
    if kind == 't:' then
        teams[#teams + 1] = redis.call('HGET', KEYS[3], name)
    else
        for place = 4, 6 do
            keys[#keys + 1] = redis.call('HGET', KEYS[place], name)
        end
    end
end
return {clock(wall()), tonumber(bounds[1]), all, teams, keys}
