#!lua flags=allow-oom
-- Begin an import: from now on the store accepts only the caller's epoch.
--
-- KEYS: meta, accounts, teams, keys, audit, hours, packed. ARGV: the new epoch, its schema.
-- Returns "begun", "again" (an earlier import did not finish, remove its data first) or, without
-- any change, "held" (the store has data).

local meta = KEYS[1]

local again = redis.call('HEXISTS', meta, 'importing') == 1
if not again and redis.call('EXISTS', unpack(KEYS, 2)) > 0 then
    return 'held'
end
local time = redis.call('TIME')
local born = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('DEL', meta)
redis.call(
    'HSET', meta, 'epoch', ARGV[1], 'schema', ARGV[2], 'born', born, 'generation', born,
    'importing', '1'
)
return again and 'again' or 'begun'
