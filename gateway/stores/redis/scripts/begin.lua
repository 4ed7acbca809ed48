-- The beginning of every script of a running gateway.
--
-- KEYS[1] is the hash "meta", ARGV[1] the epoch that the gateway knows. In another epoch, or
-- without one, the script only notes the refusal: the data that the gateway decided from are lost.

local meta = KEYS[1]

local known = redis.call('HMGET', meta, 'epoch', 'confirmed')
if known[1] ~= ARGV[1] then
    if known[1] and known[1] == known[2] then
        return redis.error_reply('EPOCH confirmed ' .. known[1])
    end
    -- An operator can only confirm an epoch while gateways are refused.
    redis.call('SET', string.gsub(meta, 'meta$', 'refused'), '1', 'EX', 60)
    return redis.error_reply('EPOCH lost')
end

-- This server's clock in microseconds since 1970. Numbers are exact up to 2^53: until 2255.
local function wall()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

-- The store's clock in microseconds: the server's, but never before the mark of the last swap.
-- Where the server's clock was set back, it goes on at half speed until that one has caught up.
local function clock(now)
    local mark = redis.call('HMGET', meta, 'clock', 'clock_wall')
    local at, set = tonumber(mark[1] or 0), tonumber(mark[2] or 0)
    return math.max(now, at + math.floor(math.max(0, now - set) / 2))
end

local function whole(number)
    return string.format('%.0f', number)
end

-- Write an audit entry. The number tells equal entries apart and keeps the order within a moment.
local function write_audit(log, at, entry)
    local number = string.format('%016.0f', redis.call('HINCRBY', meta, 'audit', 1))
    redis.call('ZADD', log, at, number .. entry)
end
