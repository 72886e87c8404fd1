-- Lease the running streams of a user for longer; those that were forgotten are counted again.
--
-- KEYS[1]      the user's running streams
-- KEYS[2..n]   the markers of their reservations
-- ARGV[1]      how long a stream is leased, in milliseconds
-- ARGV[2]      how long a marker lives, in seconds
-- ARGV[3..]    the reservations, as they stand among the streams
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for i = 2, #KEYS do
    redis.call('EXPIRE', KEYS[i], ARGV[2])
    redis.call('ZADD', KEYS[1], till, ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return #KEYS - 1
