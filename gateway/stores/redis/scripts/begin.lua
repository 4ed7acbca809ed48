-- What the scripts of a running gateway begin with.
--
-- KEYS[1] is the hash "meta", ARGV[1] the epoch that the gateway knows. In another epoch, or in
-- none, nothing is done but that it is noted: what the gateway decided from has been lost.

local meta = KEYS[1]

local known = redis.call('HMGET', meta, 'epoch', 'confirmed')
if known[1] ~= ARGV[1] then
    if known[1] and known[1] == known[2] then
        return redis.error_reply('EPOCH confirmed ' .. known[1])
    end
    -- So that an operator's word is asked for, and is not taken where nobody waits for it.
    redis.call('SET', string.gsub(meta, 'meta$', 'refused'), '1', 'EX', 60)
    return redis.error_reply('EPOCH lost')
end

-- This server's clock in microseconds since 1970. Numbers are exact up to 2^53: until 2255.
local function wall()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

-- The store's clock, in microseconds: the server's, and never before the mark that the last swap
-- left. Where the server's clock was set back, it goes on at half the pace until that is caught up.
local function clock(now)
    local mark = redis.call('HMGET', meta, 'clock', 'clock_wall')
    local at, set = tonumber(mark[1] or 0), tonumber(mark[2] or 0)
    return math.max(now, at + math.floor(math.max(0, now - set) / 2))
end

local function whole(number)
    return string.format('%.0f', number)
end

-- Take the next generation of the directory. It is a time, so that none is ever used again: not
-- even where this server has lost the last ones.
local function next_generation()
    local former = tonumber(redis.call('HGET', meta, 'generation'))
    local generation = whole(math.max(former + 1, wall()))
    redis.call('HSET', meta, 'generation', generation)
    return generation
end

-- Write a log entry. The number keeps two alike apart, and those of one moment in their order.
local function write_audit(log, at, entry)
    local number = string.format('%016.0f', redis.call('HINCRBY', meta, 'audit', 1))
    redis.call('ZADD', log, at, number .. entry)
end
