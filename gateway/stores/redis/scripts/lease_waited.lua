#!lua flags=allow-oom
-- Return whether a gateway waits for the lease KEYS[1].

return redis.call('HEXISTS', KEYS[1], 'waited')
