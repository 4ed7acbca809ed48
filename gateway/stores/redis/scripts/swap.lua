#!lua
-- Write accounts, records of operations, usage entries, unknown purchases and audit entries; or
-- nothing where an account, a record or a purchase has changed since it was read.
--
-- KEYS: meta, accounts, due, operations, operation_ends, operations_bought, hours, unknown,
-- unknown_at, audit; then for each hour with an entry its sums, purchases and hits.
-- ARGV: epoch; the latest time that the gateway knows, in microseconds; how many seconds purchases
-- and hits are kept by id; the number of accounts, then for each its name, the stamp loaded ("" for
-- never written), the new stamp and state, its earliest lease in seconds ("" for none); the number
-- of records, then for each its name, the stamp loaded ("" for none), the new stamp and operations
-- ("" to delete it), its end in seconds, whether it is expendable: 0, 1 or 2; the number of hours, then for each the
-- hour since 1970; the number of unknown purchases, then for each its id, its time, the purchase,
-- and for a refund numbers and group of the charge that it replaces (else ""); the number of audit
-- entries, then for each its time and the entry; then for each usage entry the place of its hour, 1
-- for a purchase or 2 for a hit, id, numbers, group.
-- Returns 1; or, without any change, 0 (something has changed, or a refund finds no unknown charge)
-- or -1 (a sum would be too large).

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

local records = {}
for number = 1, tonumber(take()) do
    local record = {
        name = take(), loaded = take(), state = take(), ends = take(), expendable = take()
    }
    local present = redis.call('HGET', KEYS[4], record.name)
    if string.sub(present or '', 1, 8) ~= record.loaded then
        return 0
    end
    records[number] = record
end

local hours = {}
for number = 1, tonumber(take()) do
    local key = 8 + 3 * number
    hours[number] = {
        hour = take(), sums = KEYS[key], kept = {KEYS[key + 1], KEYS[key + 2]}, coming = {}
    }
end

local unknown, unknown_by_id, audit = {}, {}, {}
for number = 1, tonumber(take()) do
    local purchase = {id = take(), at = take(), text = take(), charge = take()}
    if purchase.charge ~= '' then
        local present = redis.call('HGET', KEYS[8], purchase.id)
        if string.sub(present or '', 1, 1) ~= 'u' then
            return 0
        end
    end
    unknown[number] = purchase
    unknown_by_id[purchase.id] = purchase
end
for number = 1, tonumber(take()) do
    audit[number] = {at = take(), entry = take()}
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

for _, record in ipairs(records) do
    redis.call('ZREM', KEYS[6], record.name)
    if record.state == '' then
        redis.call('HDEL', KEYS[4], record.name)
        redis.call('ZREM', KEYS[5], record.name)
    else
        redis.call('HSET', KEYS[4], record.name, record.state)
        redis.call('ZADD', KEYS[5], record.ends, record.name)
        if record.expendable ~= '0' then
            -- What cost nothing comes before all that was bought.
            local first = record.expendable == '2' and 10 ^ 10 or 0
            redis.call('ZADD', KEYS[6], record.ends - first, record.name)
        end
    end
end

for _, purchase in ipairs(unknown) do
    redis.call('HSET', KEYS[8], purchase.id, purchase.text)
    redis.call('ZADD', KEYS[9], purchase.at, purchase.id)
end
for _, change in ipairs(audit) do
    write_audit(KEYS[10], change.at, change.entry)
end

-- List an hour before it has any usage: what is in no list is never found again.
for _, hour in ipairs(hours) do
    redis.call('ZADD', KEYS[7], hour.hour, hour.hour)
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
    local purchase = unknown_by_id[id]
    local former = redis.call('HGET', hour.kept[kind], id)
    if former and not purchase and redis.call('HDEL', KEYS[8], id) == 1 then
        redis.call('ZREM', KEYS[9], id)
    end
    -- The charge that a refund replaces may be older than what is kept by id.
    if not former and purchase and purchase.charge ~= '' then
        former = purchase.charge
    end
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
