-- End the leases KEYS, unless they are another's, and publish to the channel ARGV[1]. For each
-- lease there are its holder and the message in ARGV.

for place, lease in ipairs(KEYS) do
    if redis.call('HGET', lease, 'holder') == ARGV[2 * place] then
        redis.call('DEL', lease)
    end
    redis.call('PUBLISH', ARGV[1], ARGV[2 * place + 1])
end
