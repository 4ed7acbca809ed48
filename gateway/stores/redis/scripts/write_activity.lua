-- Add what became of requests, unless this batch was written before.
--
-- KEYS: meta, the writer's last batch, errors of the day, latency, then the rings.
-- ARGV: epoch; the batch's number; for how many seconds that is kept; for how many the errors of a
-- day are after its end, and when that is; the hour of the latency and its numbers ("" where there are none); the number of
-- error kinds, then for each: the kind, requests, time and id of the last; then for each ring: how
-- many of its lines are to stay ("" for all), how many there are here, and these.
-- Returns 1, or 0 where nothing was written.

local place = 1

local function take()
    place = place + 1
    return ARGV[place]
end

local number, seconds = take(), take()
local keep, ends = tonumber(take()), tonumber(take())
if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(number) then
    return 0
end
redis.call('SET', KEYS[2], number, 'EX', seconds)

local hour, numbers = take(), take()
if numbers ~= '' then
    local sums, former = {}, redis.call('HGET', KEYS[4], hour)
    for sum in string.gmatch(former or '', '%S+') do
        sums[#sums + 1] = tonumber(sum)
    end
    local which = 0
    for added in string.gmatch(numbers, '%S+') do
        which = which + 1
        sums[which] = whole((sums[which] or 0) + tonumber(added))
    end
    redis.call('HSET', KEYS[4], hour, table.concat(sums, ' '))
end

local kinds = tonumber(take())
for _ = 1, kinds do
    local kind, requests, at, id = take(), tonumber(take()), take(), take()
    local former = redis.call('HGET', KEYS[3], kind)
    if former then
        local count, last, whose = string.match(former, '^(%S+) (%S+) (.*)$')
        requests = requests + tonumber(count)
        if tonumber(last) > tonumber(at) then
            at, id = last, whose
        end
    end
    redis.call('HSET', KEYS[3], kind, whole(requests) .. ' ' .. at .. ' ' .. id)
end
if kinds > 0 then
    local over = math.max(ends, math.floor(wall() / 1000000))
    redis.call('EXPIREAT', KEYS[3], whole(over + keep))
end

for ring = 5, #KEYS do
    local stay = take()
    for _ = 1, tonumber(take()) do
        redis.call('ZADD', KEYS[ring], 0, take())
    end
    if stay ~= '' then
        redis.call('ZREMRANGEBYRANK', KEYS[ring], 0, -1 - tonumber(stay))
    end
end
return 1
