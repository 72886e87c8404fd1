-- Give a reservation back: once, and only from windows that are still counted.
--
-- KEYS[1]      the reservation's marker
-- KEYS[2]      the user's running streams
-- KEYS[3..n]   its counters
-- ARGV[1]      the reservation, as it stands among the streams
--
-- Answers 1 when something was given back.
redis.call('ZREM', KEYS[2], ARGV[1])
local given = redis.call('HGETALL', KEYS[1])
if #given == 0 or redis.call('HEXISTS', KEYS[1], 'settled') == 1 then
    return 0
end
redis.call('DEL', KEYS[1])
for i = 1, #given, 2 do
    if given[i] ~= KEYS[2] and redis.call('EXISTS', given[i]) == 1 then
        redis.call('DECRBY', given[i], given[i + 1])
    end
end
return 1
