-- What is used at this moment, to look at only.
--
-- KEYS[1]      the user's running streams
-- KEYS[2..n]   counters
--
-- Answers {the running streams, used or nothing per counter ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local running = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
local used = {}
if #KEYS > 1 then
    used = redis.call('MGET', unpack(KEYS, 2))
end
return { running, unpack(used) }
