#!lua flags=allow-oom
-- Take the lease KEYS[1] for ARGV[1], for ARGV[2] milliseconds. Where another gateway holds it,
-- returns the holder and the milliseconds left, and notes that somebody waits.

local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then
    redis.call('HSET', KEYS[1], 'waited', '1')
    return {holder, redis.call('PTTL', KEYS[1])}
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {}
