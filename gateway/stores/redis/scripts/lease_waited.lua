-- Whether somebody waits for the lease KEYS[1].

return redis.call('HEXISTS', KEYS[1], 'waited')
