#!lua flags=allow-oom
-- End the leases KEYS, unless another gateway holds them, and publish a message for each.
--
-- ARGV: the channel, then for each lease its holder and the message.

for place, lease in ipairs(KEYS) do
    if redis.call('HGET', lease, 'holder') == ARGV[2 * place] then
        redis.call('DEL', lease)
    end
    redis.call('PUBLISH', ARGV[1], ARGV[2 * place + 1])
end
