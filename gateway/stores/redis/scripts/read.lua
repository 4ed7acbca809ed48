#!lua flags=allow-oom
-- Run one command that reads one key.
--
-- KEYS: meta, the key. ARGV: epoch, the command's name, its arguments after the key.

return redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
