#!lua flags=allow-oom
-- Read everything but most of the usage, as of one moment.
--
-- KEYS: meta, teams, keys, states, ends, uses, accounts, audit, unknown, hours, packed; then for
-- each of some hours its sums, its purchases, its pack. ARGV: epoch.
-- Returns the hashes as fields and values, uses as ids and times, audit entries by time; both lists
-- of hours; then sums, purchases and pack of each of those hours.

local small = {redis.call('HGETALL', meta)}
for place = 2, 5 do
    small[place] = redis.call('HGETALL', KEYS[place])
end
small[6] = redis.call('ZRANGE', KEYS[6], 0, -1, 'WITHSCORES')
small[7] = redis.call('HGETALL', KEYS[7])
small[8] = redis.call('ZRANGE', KEYS[8], 0, -1)
small[9] = redis.call('HGETALL', KEYS[9])

local hours = {redis.call('ZRANGE', KEYS[10], 0, -1), redis.call('ZRANGE', KEYS[11], 0, -1)}

local usage = {}
for place = 12, #KEYS, 3 do
    usage[#usage + 1] = {
        redis.call('HGETALL', KEYS[place]),
        redis.call('HGETALL', KEYS[place + 1]),
        redis.call('HGETALL', KEYS[place + 2]),
    }
end
return {small, hours, usage}
