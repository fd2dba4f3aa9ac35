"""The leases' scripts: each reads and writes one parcel's hash in one step, by Redis's own clock.

KEYS[1] is the hash: state, until (ms), token, attempt, crashes. What a script returns stands in its comment.
"""

_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"


def _timed(body: str) -> str:
    return _NOW + body


# KEYS[2] the inbox's pace; ARGV ms, keep ms, attempts used -> pace or ""
QUEUE = _timed("""
redis.call('HSET', KEYS[1], 'state', 'queued', 'until', now + ARGV[1], 'token', '', 'attempt', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[2]) or ''
""")

# ARGV state, until, token as seen, ms, keep ms, deaths to add, call -> 1 + deaths, or 0 if it is not as seen
# The call is known again when it is repeated, because its answer was lost.
TAKE_OVER = _timed("""
local state, till, token, call = unpack(redis.call('HMGET', KEYS[1], 'state', 'until', 'token', 'call'))
if call == ARGV[7] then return 1 + redis.call('HGET', KEYS[1], 'crashes') end
if (state or '') ~= ARGV[1] or (till or '') ~= ARGV[2] or (token or '') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'queued', 'until', now + ARGV[4], 'token', '', 'call', ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1 + redis.call('HINCRBY', KEYS[1], 'crashes', ARGV[6])
""")

# ARGV token, ms, keep ms, a dead owner's token or "" -> verdict, attempt, owner
START = _timed("""
local state, till, token = unpack(redis.call('HMGET', KEYS[1], 'state', 'until', 'token'))
if state == 'finished' or state == 'filed' then return {'finished', 0, ''} end
if state == 'running' and token == ARGV[1] then return {'started', tonumber(redis.call('HGET', KEYS[1], 'attempt')), ''} end
if state == 'running' and tonumber(till) > now and token ~= ARGV[4] then return {'busy', 0, token} end
redis.call('HSET', KEYS[1], 'state', 'running', 'until', now + ARGV[2], 'token', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'started', redis.call('HINCRBY', KEYS[1], 'attempt', 1), ''}
""")

# ARGV token, next state, ms, next token, keep ms -> 1, or 0 if the parcel has moved on
TRANSITION = _timed("""
local state, token = unpack(redis.call('HMGET', KEYS[1], 'state', 'token'))
if state and (state ~= 'running' or token ~= ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'until', now + ARGV[3], 'token', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
""")

# ARGV the state to leave it in, keep ms: a queued parcel's lease lapses now
EXPIRE = """
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'until', 0, 'token', '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS[2] its progress, KEYS[3] its outcome; ARGV keep ms -> the state before, or ""
MARK_FILED = """
local state = redis.call('HGET', KEYS[1], 'state')
redis.call('DEL', unpack(KEYS))
redis.call('HSET', KEYS[1], 'state', 'filed', 'until', 0, 'token', '')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return state or ''
"""

# KEYS[1] a pace; ARGV seconds for each file, weight
AVERAGE = """
local mean = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
redis.call('SET', KEYS[1], string.format('%.6f', mean + ARGV[2] * (ARGV[1] - mean)), 'EX', 3600)
"""

# KEYS[1] the epoch -> ms since Redis has had its memory
DATASET_AGE = _timed("redis.call('SET', KEYS[1], now, 'NX'); return now - redis.call('GET', KEYS[1])")

# KEYS[1] names by when they were last heard of; ARGV ms for which that counts, the names that are there now -> all that count
REGISTER_WORKER = _timed("""
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")

# KEYS[1] a turn, then those that are over; ARGV who asks, seconds, whose each of these was -> whose the turn is
ACQUIRE_LOCK = """
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i + 1] then redis.call('DEL', KEYS[i]) end
end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2])
return redis.call('GET', KEYS[1])
"""

# ARGV the value by which it is one's own
RELEASE_LOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
