-- Set a key's state, unless it is revoked.
--
-- KEYS: meta, changed, states. ARGV: epoch, the key's id, the state.
-- Returns 0 where there is no such key.

local id, state = ARGV[2], ARGV[3]
local former = redis.call('HGET', KEYS[3], id)
if not former then
    return 0
end
if former ~= 'revoked' then
    local generation = next_generation()
    redis.call('HSET', KEYS[3], id, state)
    redis.call('ZADD', KEYS[2], generation, 'k:' .. id)
end
return 1
