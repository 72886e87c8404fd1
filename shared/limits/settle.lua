-- Put what was used in the place of what was reserved: once, and only in windows that are still
-- counted. What a reservation took elsewhere (a request) stays taken.
--
-- KEYS[1]      the reservation's marker
-- KEYS[2]      the user's running streams
-- KEYS[3..n]   the counters of what was used
-- ARGV[1]      the reservation, as it stands among the streams
-- ARGV[2]      '' for one that was made here; else it was made while no answer came from here, so
--              there may be no marker: how many seconds to remember that it has been settled
-- ARGV[3..]    used per counter
--
-- Answers 1 when something was settled.
redis.call('ZREM', KEYS[2], ARGV[1])
local reserved = {}
if #KEYS > 2 then
    reserved = redis.call('HMGET', KEYS[1], unpack(KEYS, 3))
end
if ARGV[2] == '' then
    if redis.call('DEL', KEYS[1]) == 0 then
        return 0
    end
else
    if redis.call('HSETNX', KEYS[1], 'settled', 1) == 0 then
        return 0
    end
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
for i = 3, #KEYS do
    local more = ARGV[i] - (reserved[i - 2] or 0)
    if more ~= 0 and redis.call('EXISTS', KEYS[i]) == 1 then
        redis.call('INCRBY', KEYS[i], string.format('%.0f', more))
    end
end
return 1
