-- Write audit entries.
--
-- KEYS: meta, audit. ARGV: epoch, then for each entry its time and the entry.

for place = 2, #ARGV, 2 do
    write_audit(KEYS[2], ARGV[place], ARGV[place + 1])
end
return 'ok'
