-- Give a reservation back: once, and only from windows that are still counted.
--
-- KEYS[1]      the reservation's marker
-- KEYS[2..n]   its counters
--
-- Answers 1 when something was given back.
local given = redis.call('HGETALL', KEYS[1])
if #given == 0 then
    return 0
end
redis.call('DEL', KEYS[1])
for i = 1, #given, 2 do
    if redis.call('EXISTS', given[i]) == 1 then
        redis.call('DECRBY', given[i], given[i + 1])
    end
end
return 1
