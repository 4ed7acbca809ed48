#!lua
-- Write teams, keys and audit entries, all or none.
--
-- KEYS: meta, changed, teams, keys, states, ends, audit. ARGV: epoch, the generation that the write
-- was decided on, the numbers of teams and of keys; for each team its name and the team; for each
-- key its id, its team's name, the key, its state, its grace end ("" for none); for each audit
-- entry its time and the entry.
-- Returns "ok"; or, without any change, "moved" (the generation has moved on), or "no team" and the
-- name of a key's team that does not exist.

-- Take the next generation of the directory. It is a time, so that no generation is used twice,
-- even where this server has lost the latest ones.
local function next_generation()
    local former = tonumber(redis.call('HGET', meta, 'generation'))
    local generation = whole(math.max(former + 1, wall()))
    redis.call('HSET', meta, 'generation', generation)
    return generation
end

local teams, keys = tonumber(ARGV[3]), tonumber(ARGV[4])
local first_key = 5 + 2 * teams
local first_entry = first_key + 5 * keys

if whole(tonumber(redis.call('HGET', meta, 'generation'))) ~= ARGV[2] then
    return {'moved'}
end
local named = {}
for place = 5, first_key - 1, 2 do
    named[ARGV[place]] = true
end
for place = first_key, first_entry - 1, 5 do
    local team = ARGV[place + 1]
    if not named[team] and redis.call('HEXISTS', KEYS[3], team) == 0 then
        return {'no team', team}
    end
end

local generation = (teams + keys > 0) and next_generation()
for place = 5, first_key - 1, 2 do
    redis.call('HSET', KEYS[3], ARGV[place], ARGV[place + 1])
    redis.call('ZADD', KEYS[2], generation, 't:' .. ARGV[place])
end
for place = first_key, first_entry - 1, 5 do
    local id, ends = ARGV[place], ARGV[place + 4]
    redis.call('HSET', KEYS[4], id, ARGV[place + 2])
    redis.call('HSET', KEYS[5], id, ARGV[place + 3])
    if ends == '' then
        redis.call('HDEL', KEYS[6], id)
    else
        redis.call('HSET', KEYS[6], id, ends)
    end
    redis.call('ZADD', KEYS[2], generation, 'k:' .. id)
end
for place = first_entry, #ARGV, 2 do
    write_audit(KEYS[7], ARGV[place], ARGV[place + 1])
end
return {'ok'}
