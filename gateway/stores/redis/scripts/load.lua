#!lua flags=allow-oom
-- Read accounts and records of operations, and the time, as of one moment.
--
-- KEYS: meta, accounts, operations. ARGV: epoch, the number of accounts, for each its name and the
-- stamp that the gateway has in its cache, then the names of the records.
-- Returns the time, then for each account false (never written), 1 (the stamp is still the same),
-- or its stamp and state, then for each record false or its stamp and operations.

local reply = {clock(wall())}
local first = 3 + 2 * ARGV[2]
for place = 3, first - 1, 2 do
    local state = redis.call('HGET', KEYS[2], ARGV[place])
    if state and string.sub(state, 1, 16) == ARGV[place + 1] then
        state = 1
    end
    reply[#reply + 1] = state
end
for place = first, #ARGV do
    reply[#reply + 1] = redis.call('HGET', KEYS[3], ARGV[place])
end
return reply
