-- Put what was used in the place of what was reserved: once, and only in windows that are still
-- counted. What a reservation took elsewhere (a request) stays taken.
--
-- A seeded counter may have been filled from the database after that heard of this settlement, when
-- it is told late and the counter does not hold what was reserved for it: then nobody knows whether
-- it is in the counter. So that is dropped, to be filled anew. What others had reserved in it went
-- with it: their markers do not name the drop, and they are charged whole.
--
-- KEYS[1]      the reservation's marker
-- KEYS[2]      the user's running streams
-- KEYS[3..n]   the counters of what was used
-- ARGV[1]      the reservation, as it stands among the streams
-- ARGV[2]      '' for one that was made here; else it was made while no answer came from here, so
--              there may be no marker: how many seconds to remember that it has been settled
-- ARGV[3]      '' when it is told at once; else how many seconds longer than its counter a drop is
--              remembered: as long as a marker lives
-- ARGV[4..]    per counter: used, and 1 if it is seeded
--
-- Answers 1 when something was settled.
redis.call('ZREM', KEYS[2], ARGV[1])
local reserved = redis.call('HMGET', KEYS[1], 'settled', unpack(KEYS, 3))
if table.remove(reserved, 1) then
    return 0
end
for i = 3, #KEYS do
    local dropped = ARGV[2 * i - 1] == '1' and redis.call('GET', KEYS[i] .. ':dropped')
    if dropped and dropped ~= redis.call('HGET', KEYS[1], KEYS[i] .. '#') then
        reserved[i - 2] = false
    end
end
if ARGV[2] == '' then
    if redis.call('DEL', KEYS[1]) == 0 then
        return 0
    end
else
    redis.call('HSET', KEYS[1], 'settled', 1)
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
for i = 3, #KEYS do
    local held = reserved[i - 2]
    local more = ARGV[2 * i - 2] - (held or 0)
    if more ~= 0 and redis.call('EXISTS', KEYS[i]) == 1 then
        if ARGV[3] ~= '' and ARGV[2 * i - 1] == '1' and not held then
            local lives = math.max(0, redis.call('TTL', KEYS[i])) + ARGV[3]
            redis.call('INCR', KEYS[i] .. ':dropped')
            redis.call('EXPIRE', KEYS[i] .. ':dropped', string.format('%.0f', lives))
            redis.call('DEL', KEYS[i])
        else
            redis.call('INCRBY', KEYS[i], string.format('%.0f', more))
        end
    end
end
return 1
