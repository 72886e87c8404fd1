-- Write batches of what turns said, each to its turn's stream, and announce turns that begin.
-- For each key: the batch's number, the batch, for how many seconds the stream is kept from now on,
-- and the channel and message of an announcement; empty texts are left out.
-- Answers how many batches were refused for another reason than being there already, and the first
-- such reason, in at most 100 bytes.

local refused, reason = 0, ''
for i, key in ipairs(KEYS) do
    local at = (i - 1) * 5
    local batch, channel = ARGV[at + 2], ARGV[at + 4]
    if batch ~= '' then
        local answer = redis.pcall('XADD', key, ARGV[at + 1], 'e', batch)
        if type(answer) == 'table' and answer.err
            and not string.find(answer.err, 'equal or smaller', 1, true) then
            refused = refused + 1
            if reason == '' then
                reason = string.sub(answer.err, 1, 100)
            end
        end
    end
    redis.pcall('EXPIRE', key, ARGV[at + 3])
    if channel ~= '' then
        redis.call('PUBLISH', channel, ARGV[at + 5])
    end
end
return {refused, reason}
