-- Read what the server reports about itself, as far as this user may read it.
--
-- No KEYS: the user may lack rights. Returns the texts of the sections; an empty text where INFO
-- is forbidden.
-- The script declares no flags: a server that is too old must be able to run it.

local sections = {}
for place, section in ipairs({'server', 'memory', 'replication', 'persistence'}) do
    local text = redis.pcall('INFO', section)
    sections[place] = type(text) == 'string' and text or ''
end
return sections
