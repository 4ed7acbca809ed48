#!lua flags=allow-oom
-- Claim a name, or mark it as done.
--
-- KEYS: meta, claims, claim_ends. ARGV: epoch, name, owner, duration in microseconds, "1" to mark
-- it as done, note. Returns -1; or, without any change, in how many microseconds it can be claimed.
--
-- A claim is "1" or "0" (whether it is done), the owner's length, ":", the owner and the note.

local claims, ends = KEYS[2], KEYS[3]
local name, owner, done = ARGV[2], ARGV[3], ARGV[5]
local now = clock(wall())

-- Delete claims that have ended, some at a time.
local over = redis.call('ZRANGEBYSCORE', ends, '-inf', whole(now), 'LIMIT', 0, 100)
if #over > 0 then
    redis.call('HDEL', claims, unpack(over))
    redis.call('ZREM', ends, unpack(over))
end

local last = tonumber(redis.call('ZSCORE', ends, name) or 0)
if done == '0' and last > now then
    local present = redis.call('HGET', claims, name)
    local mine = '0' .. #owner .. ':' .. owner
    if string.sub(present, 1, #mine) ~= mine then
        return last - now
    end
end
redis.call('HSET', claims, name, done .. #owner .. ':' .. owner .. ARGV[6])
redis.call('ZADD', ends, whole(now + ARGV[4]), name)
return -1
