-- Check and reserve all windows and a place among the running streams at once, or none.
--
-- KEYS[1]      the reservation's marker, so that it is given back or settled once
-- KEYS[2]      the tier that auth told of this user lately, if it did
-- KEYS[3]      the user's running streams, by the moment until which each is leased
-- KEYS[4..n]   one counter per window; the window's start is part of the key, so nothing resets it
-- ARGV[1]      how long the marker lives, in seconds
-- ARGV[2]      the tier that the access token claims, and whose windows these are
-- ARGV[3]      the reservation, as it stands among the streams
-- ARGV[4]      most streams at once; '' when this request is none
-- ARGV[5]      how long a stream is leased, in milliseconds
-- ARGV[6..]    per window: limit, amount, room that must be left, seconds until the counter may be
--              dropped, and what a missing counter starts from ('' is zero, '?' is not known here)
--
-- Answers {0, or the index of what refused (the streams come after the windows), streams running,
-- used per window ...}; used is that after the reservation, or before it when refused, and ends at
-- a window whose counter is missing. Or the told tier alone, if it is another one than claimed; or
-- -1 when a counter is missing that the caller has to tell the start of. Then nothing was reserved.
--
-- A reservation that stands already is answered and not made again: the caller may repeat the call
-- when the connection broke before the answer came.
local windows = #KEYS - 3
local streams = KEYS[3]
local most = tonumber(ARGV[4])
local running = 0
local used = {}

local function read_counter(i)
    used[i] = tonumber(redis.call('GET', KEYS[i + 3]) or nil)
    return used[i]
end

if redis.call('EXISTS', KEYS[1]) == 1 then
    for i = 1, windows do
        used[i] = read_counter(i) or 0
    end
    return { 0, most and redis.call('ZCARD', streams) or 0, unpack(used) }
end

local told = redis.call('GET', KEYS[2])
if told and told ~= ARGV[2] then
    return told
end

local refused = 0
local unknown = 0
for i = 1, windows do
    local at = 5 * i + 1
    local seed = ARGV[at + 4]
    if not read_counter(i) then
        if seed == '?' then
            unknown = i
        else
            used[i] = tonumber(seed) or 0
            if seed ~= '' then
                redis.call('SET', KEYS[i + 3], seed, 'EX', ARGV[at + 3])
            end
        end
    end
    if refused == 0 and used[i] and used[i] + tonumber(ARGV[at + 2]) > tonumber(ARGV[at]) then
        refused = i
    end
end

local now
if most then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('ZREMRANGEBYSCORE', streams, '-inf', now)
    running = redis.call('ZCARD', streams)
    if refused == 0 and running >= most then
        refused = windows + 1
    end
end

if refused > 0 then
    return { refused, running, unpack(used) }
end
if unknown > 0 then
    return -1
end

local taken = {}
for i = 1, windows do
    local at = 5 * i + 1
    local key, amount = KEYS[i + 3], ARGV[at + 1]
    local before = used[i]
    used[i] = redis.call('INCRBY', key, amount)
    if before == 0 then
        redis.call('EXPIRE', key, ARGV[at + 3])
    end
    taken[#taken + 1] = key
    taken[#taken + 1] = amount
    -- How often a seeded counter was dropped by then (see settle), as almost none ever is.
    local dropped = ARGV[at + 4] ~= '' and redis.call('GET', key .. ':dropped')
    if dropped then
        taken[#taken + 1] = key .. '#'
        taken[#taken + 1] = dropped
    end
end
if most then
    redis.call('ZADD', streams, now + ARGV[5], ARGV[3])
    redis.call('PEXPIRE', streams, ARGV[5])
    running = running + 1
    taken[#taken + 1] = streams
    taken[#taken + 1] = 1
end
if #taken > 0 then
    redis.call('HSET', KEYS[1], unpack(taken))
    redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return { 0, running, unpack(used) }
