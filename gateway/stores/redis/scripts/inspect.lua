-- What the server that holds this key says of itself, as far as it may be asked.
--
-- KEYS: meta. Returns the sections' text; an empty one where INFO is forbidden.
-- It has no flags: a server that is too old must be able to say so.

local sections = {}
for place, section in ipairs({'server', 'memory', 'replication', 'persistence'}) do
    local text = redis.pcall('INFO', section)
    sections[place] = type(text) == 'string' and text or ''
end
return sections
