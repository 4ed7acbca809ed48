#!lua
-- Write a claim from an archive. One that has ended is deleted as others are made.
--
-- KEYS: meta, claims, claim_ends. ARGV: epoch, name, its end in microseconds, the claim.

redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
