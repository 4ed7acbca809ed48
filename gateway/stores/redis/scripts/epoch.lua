#!lua flags=allow-oom
-- Begin an epoch where there is none. Confirm the present one where that is asked for and gateways
-- with another epoch were refused within the last minute.
--
-- KEYS: meta, refused. ARGV: the id of a new epoch, its schema, "confirm" or "".
-- Returns the schema, the epoch, and 1 where it was confirmed now. Fails during an import.

local meta = KEYS[1]

if redis.call('HEXISTS', meta, 'importing') == 1 then
    return redis.error_reply('IMPORT unfinished')
end
if redis.call('HEXISTS', meta, 'epoch') == 0 then
    local time = redis.call('TIME')
    local born = string.format('%.0f', time[1] * 1000000 + time[2])
    redis.call(
        'HSET', meta, 'epoch', ARGV[1], 'schema', ARGV[2], 'born', born, 'generation', born
    )
end
local present = redis.call('HMGET', meta, 'schema', 'epoch', 'confirmed')
local confirmed = 0
local awaited = redis.call('EXISTS', KEYS[2]) == 1
if ARGV[3] == 'confirm' and awaited and present[3] ~= present[2] then
    redis.call('HSET', meta, 'confirmed', present[2])
    confirmed = 1
end
return {present[1], present[2], confirmed}
