-- Check and reserve all windows at once, or none.
--
-- KEYS[1]      the reservation's marker, so that a refund happens once
-- KEYS[2]      the tier that auth told of this user lately, if it did
-- KEYS[3..n]   one counter per window; the window's start is part of the key, so nothing resets it
-- ARGV[1]      how long the marker lives, in seconds
-- ARGV[2]      the tier that the access token claims, and whose windows these are
-- ARGV[3..]    per window: limit, amount, seconds until the counter may be dropped
--
-- Answers {refused window's index or 0, used after (or before, if refused) per window ...}; or the
-- told tier alone, if it is another one than claimed: then nothing was reserved.
--
-- A reservation that stands already is answered and not made again: the caller may repeat the call
-- when the connection broke before the answer came.
local windows = #KEYS - 2
local used = {}
local refused = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
    for i = 1, windows do
        used[i] = tonumber(redis.call('GET', KEYS[i + 2]) or '0')
    end
    return { 0, unpack(used) }
end
local told = redis.call('GET', KEYS[2])
if told and told ~= ARGV[2] then
    return told
end
for i = 1, windows do
    used[i] = tonumber(redis.call('GET', KEYS[i + 2]) or '0')
    local limit, amount = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
    if refused == 0 and used[i] + amount > limit then
        refused = i
    end
end
if refused == 0 then
    local taken = {}
    for i = 1, windows do
        local amount, ttl = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
        used[i] = redis.call('INCRBY', KEYS[i + 2], amount)
        redis.call('EXPIRE', KEYS[i + 2], ttl)
        taken[#taken + 1] = KEYS[i + 2]
        taken[#taken + 1] = amount
    end
    if windows > 0 then
        redis.call('HSET', KEYS[1], unpack(taken))
        redis.call('EXPIRE', KEYS[1], tonumber(ARGV[1]))
    end
end
return { refused, unpack(used) }
