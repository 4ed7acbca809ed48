#!lua
-- Write accounts and usage entries, or nothing where an account has changed since it was loaded.
--
-- KEYS: meta, accounts, due, hours; then for each hour with an entry its sums, purchases and hits.
-- ARGV: epoch; the latest time that the gateway knows, in microseconds; how many seconds purchases
-- and hits are kept by id; the number of accounts, then for each its name, the stamp loaded ("" for
-- never written), the new stamp and state, its earliest lease in seconds ("" for none); the number
-- of hours, then for each the hour since 1970; then for each entry the place of its hour, 1 for a
-- purchase or 2 for a hit, id, numbers, group.
-- Returns 1; or, without any change, 0 (an account has changed) or -1 (a sum would be too large).

local place = 2

local function take()
    place = place + 1
    return ARGV[place - 1]
end

local latest = tonumber(take())
local keep = {tonumber(take()), tonumber(take())}

-- Check everything before writing anything: Redis does not undo what a failing script has written.
local changes = {}
for number = 1, tonumber(take()) do
    local change = {name = take(), loaded = take(), state = take(), lease = take()}
    local present = redis.call('HGET', KEYS[2], change.name)
    if string.sub(present or '', 1, 16) ~= change.loaded then
        return 0
    end
    changes[number] = change
end

local hours = {}
for number = 1, tonumber(take()) do
    local key = 2 + 3 * number
    hours[number] = {
        hour = take(), sums = KEYS[key], kept = {KEYS[key + 1], KEYS[key + 2]}, coming = {}
    }
end

-- Requests, images bought, cached and unknown, micro-dollars of cost and saved, images coalesced,
-- requests refused.
local SUMS = {'r', 'b', 'c', 'u', 'm', 's', 'o', 'f'}

-- HINCRBY fails at 2^63, which would end the script in the middle. Lua's numbers are not exact
-- there, so the bound is lower. Single numbers are below 2^63: gateways check them.
local MOST = 9 * 10 ^ 18

for entry = place, #ARGV, 5 do
    local hour, fields = hours[tonumber(ARGV[entry])], {}
    for which, letter in ipairs(SUMS) do
        fields[which] = letter .. ARGV[entry + 4]
    end
    local sums, which = redis.call('HMGET', hour.sums, unpack(fields)), 0
    for number in string.gmatch(ARGV[entry + 3], '%S+') do
        which = which + 1
        local before = hour.coming[fields[which]] or tonumber(sums[which] or 0)
        local coming = tonumber(number)
        if coming < 0 or (before ~= 0 and before + coming > MOST) then
            return -1
        end
        hour.coming[fields[which]] = before + coming
    end
end

local now = wall()
redis.call(
    'HSET', meta, 'clock', whole(math.max(clock(now), latest)), 'clock_wall', whole(now)
)
for _, change in ipairs(changes) do
    redis.call('HSET', KEYS[2], change.name, change.state)
    if change.lease == '' then
        redis.call('ZREM', KEYS[3], change.name)
    else
        redis.call('ZADD', KEYS[3], change.lease, change.name)
    end
end

-- List an hour before it has any usage: what is in no list is never found again.
for _, hour in ipairs(hours) do
    redis.call('ZADD', KEYS[4], hour.hour, hour.hour)
end

-- HINCRBY adds integers exactly; Lua's numbers are exact only up to 2^53.
local function add(sums, numbers, group, sign)
    local which = 0
    for number in string.gmatch(numbers, '%S+') do
        which = which + 1
        local field = SUMS[which] .. group
        if number ~= '0' and redis.call('HINCRBY', sums, field, sign .. number) == 0 then
            redis.call('HDEL', sums, field)
        end
    end
end

while place <= #ARGV do
    local hour, kind, id = hours[tonumber(take())], tonumber(take()), take()
    local numbers, group = take(), take()
    local former = redis.call('HGET', hour.kept[kind], id)
    if former then
        local end_of_numbers = string.find(former, '[', 1, true)
        local old_numbers = string.sub(former, 1, end_of_numbers - 1)
        add(hour.sums, old_numbers, string.sub(former, end_of_numbers), '-')
    end
    add(hour.sums, numbers, group, '')
    redis.call('HSET', hour.kept[kind], id, numbers .. group)
end

for _, hour in ipairs(hours) do
    local over = math.max((hour.hour + 1) * 3600, math.floor(now / 1000000))
    for kind = 1, 2 do
        redis.call('EXPIREAT', hour.kept[kind], whole(over + keep[kind]))
    end
end
return 1
