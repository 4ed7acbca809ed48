#!lua flags=no-writes
-- Say which commands this user may not run, and run none of them.
--
-- No KEYS. ARGV: commands with their arguments, words separated by spaces.
-- Returns the places of the forbidden ones, from 1.

local forbidden = {}
for place, command in ipairs(ARGV) do
    local words = {}
    for word in string.gmatch(command, '%S+') do
        words[#words + 1] = word
    end
    if not redis.acl_check_cmd(unpack(words)) then
        forbidden[#forbidden + 1] = place
    end
end
return forbidden
