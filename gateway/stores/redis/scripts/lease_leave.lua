#!lua
-- Leave ARGV[1] at KEYS[1] for ARGV[2] milliseconds.

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
