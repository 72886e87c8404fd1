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
local held = {}
for i = 1, #given, 2 do
    held[given[i]] = given[i + 1]
end
for i = 1, #given, 2 do
    local key = given[i]
    if key ~= KEYS[2] and redis.call('EXISTS', key) == 1 then
        -- A counter that was dropped since and filled anew (see settle) does not hold it.
        local dropped = redis.call('GET', key .. ':dropped')
        if not dropped or dropped == held[key .. '#'] then
            redis.call('DECRBY', key, held[key])
        end
    end
end
return 1
