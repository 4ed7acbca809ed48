-- Create or replace teams.
--
-- KEYS: meta, changed, teams. ARGV: epoch, then for each team its name and itself.

local generation = next_generation()
for place = 2, #ARGV, 2 do
    redis.call('HSET', KEYS[3], ARGV[place], ARGV[place + 1])
    redis.call('ZADD', KEYS[2], generation, 't:' .. ARGV[place])
end
return 'ok'
