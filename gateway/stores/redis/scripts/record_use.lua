#!lua
-- Keep when keys were used, unless a later use is known.
--
-- KEYS: meta, uses. ARGV: epoch, then for each key the time in seconds and its id.

for place = 2, #ARGV, 2 do
    redis.call('ZADD', KEYS[2], 'GT', ARGV[place], ARGV[place + 1])
end
return 'ok'
