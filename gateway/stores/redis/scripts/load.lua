#!lua flags=allow-oom
-- Read accounts, and the time, as of one moment.
--
-- KEYS: meta, accounts. ARGV: epoch, then for each account its name and the stamp that the gateway
-- has in its cache.
-- Returns the time, then for each account false (never written), 1 (the stamp is still the same),
-- or its stamp and state.

local reply = {clock(wall())}
for place = 2, #ARGV, 2 do
    local state = redis.call('HGET', KEYS[2], ARGV[place])
    if state and string.sub(state, 1, 16) == ARGV[place + 1] then
        state = 1
    end
    reply[#reply + 1] = state
end
return reply
