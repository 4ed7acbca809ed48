-- Create a key, and let the one that it replaces end.
--
-- KEYS: meta, changed, teams, keys, states, ends. ARGV: epoch, the key's id, its team's name,
-- itself, its state, when its grace ends ("" for never), the id of the key that it replaces ("" for
-- none), when that one ends.
-- Returns "ok"; or, where nothing was done, "inactive" (there is no active key to replace),
-- "no team" or "taken" (the id).

local id, team, key, state, ends = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local replaced, end_of_grace = ARGV[7], ARGV[8]

if replaced ~= '' and redis.call('HGET', KEYS[5], replaced) ~= 'active' then
    return 'inactive'
elseif redis.call('HEXISTS', KEYS[3], team) == 0 then
    return 'no team'
elseif redis.call('HEXISTS', KEYS[4], id) == 1 then
    return 'taken'
end

local generation = next_generation()

local function changed(name)
    redis.call('ZADD', KEYS[2], generation, 'k:' .. name)
end

redis.call('HSET', KEYS[4], id, key)
redis.call('HSET', KEYS[5], id, state)
if ends ~= '' then
    redis.call('HSET', KEYS[6], id, ends)
end
changed(id)
if replaced ~= '' then
    local former = redis.call('HGET', KEYS[6], replaced)
    if not former or tonumber(end_of_grace) < tonumber(former) then
        redis.call('HSET', KEYS[6], replaced, end_of_grace)
    end
    changed(replaced)
end
return 'ok'
