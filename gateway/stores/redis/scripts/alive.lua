#!lua flags=allow-oom
-- Return when the leases of gateways end or ended, false for those that are not known.
--
-- KEYS: meta, gateways. ARGV: epoch, the gateways.

local reply = {}
for place = 2, #ARGV do
    reply[place - 1] = redis.call('ZSCORE', KEYS[2], ARGV[place])
end
return reply
