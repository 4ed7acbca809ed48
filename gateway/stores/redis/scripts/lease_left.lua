#!lua flags=allow-oom
-- Return what was left at KEYS[1].

return redis.call('GET', KEYS[1])
