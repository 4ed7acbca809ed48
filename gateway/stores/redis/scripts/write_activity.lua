#!lua
-- Write a batch of the request history, unless it was written before.
--
-- KEYS: meta, the writer's last batch, errors of the day, latency, then the rings.
-- ARGV: epoch; the batch's number, and how many seconds that is kept; how many seconds the errors
-- of a day are kept after its end, and that end; the hour of the latency and its numbers ("" for
-- none); the number of error kinds, then for each the kind, its count, time and id of the last
-- request; then for each ring how many lines stay ("" for all), the number of new lines, and these.
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
        local count, last, last_id = string.match(former, '^(%S+) (%S+) (.*)$')
        requests = requests + tonumber(count)
        if tonumber(last) > tonumber(at) then
            at, id = last, last_id
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
