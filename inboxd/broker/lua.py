"""Lua scripts for Redis: leases, the age of the dataset, registered workers and sweep locks.

A comment above each script gives its KEYS and ARGV and, after ->, its reply. KEYS[1] is a lease, unless stated otherwise: a
hash with state, until (ms by Redis's clock), token, attempt, crashes, stops, call, lone_file. "keep ms" is the time until the
hash is deleted.
"""


def _timed(body: str) -> str:
    """Return a script that begins with the definition of ``now``: ms by Redis's clock."""
    return "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n" + body


# KEYS[2] the inbox's mean seconds per file; ARGV ms, keep ms, attempts used -> the mean or ""
QUEUE = _timed("""
redis.call('HSET', KEYS[1], 'state', 'queued', 'until', now + ARGV[1], 'token', '', 'attempt', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[2]) or ''
""")

# ARGV expected state, until and token, ms, keep ms, crashes to add, id of this call -> 1 + crashes, or 0 if not as expected
# The call's id makes a retry idempotent whose first reply was lost.
REQUEUE_IF_UNCHANGED = _timed("""
local state, expires, token, call = unpack(redis.call('HMGET', KEYS[1], 'state', 'until', 'token', 'call'))
if call == ARGV[7] then return 1 + redis.call('HGET', KEYS[1], 'crashes') end
if (state or '') ~= ARGV[1] or (expires or '') ~= ARGV[2] or (token or '') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'queued', 'until', now + ARGV[4], 'token', '', 'call', ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1 + redis.call('HINCRBY', KEYS[1], 'crashes', ARGV[6])
""")

# KEYS[2] the outcome's key; ARGV token, ms, keep ms, a dead owner's token or "", the only file or "" -> verdict, attempt, owner
# An outcome that is no string would prevent Celery from storing one.
START = _timed("""
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'string' and kind ~= 'none' then redis.call('DEL', KEYS[2]) end
local state, expires, token = unpack(redis.call('HMGET', KEYS[1], 'state', 'until', 'token'))
if state == 'finished' or state == 'filed' then return {'finished', 0, ''} end
if state == 'running' and token == ARGV[1] then
  return {'started', tonumber(redis.call('HGET', KEYS[1], 'attempt')) or 1, ''}
end
local left = (tonumber(expires) or 0) - now
if state == 'running' and left > 0 and left <= tonumber(ARGV[3]) and token ~= ARGV[4] then return {'busy', 0, token or ''} end
redis.call('HSET', KEYS[1], 'state', 'running', 'until', now + ARGV[2], 'token', ARGV[1], 'lone_file', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'started', redis.call('HINCRBY', KEYS[1], 'attempt', 1), ''}
""")

# ARGV token, next state, ms, next token, keep ms -> 1, or 0 if a lease exists that is not running or has another token
TRANSITION = _timed("""
local state, token = unpack(redis.call('HMGET', KEYS[1], 'state', 'token'))
if state and (state ~= 'running' or token ~= ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'until', now + ARGV[3], 'token', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
""")

# ARGV next state, keep ms: expires a queued parcel's lease -> 1, or 0 if the parcel is not queued
EXPIRE = """
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'until', 0, 'token', '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# ARGV ms, keep ms: postpones the expiry of a queued parcel's lease -> 1, or 0 if the parcel is not queued
AWAIT_ANSWER = _timed("""
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('HSET', KEYS[1], 'until', now + ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1] + ARGV[2])
return 1
""")

# KEYS[2] the parcel's progress, KEYS[3] its outcome; ARGV keep ms -> the previous state or ""
MARK_FILED = """
local state = redis.call('HGET', KEYS[1], 'state')
redis.call('DEL', unpack(KEYS))
redis.call('HSET', KEYS[1], 'state', 'filed', 'until', 0, 'token', '')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return state or ''
"""

# KEYS[1] an inbox's mean seconds per file; ARGV a new value, its weight. Expires an hour after the last value.
AVERAGE = """
local mean = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
if not (mean and mean >= 0 and mean < 1e6) then mean = ARGV[1] end
redis.call('SET', KEYS[1], string.format('%.6f', mean + ARGV[2] * (ARGV[1] - mean)), 'EX', 3600)
"""

# KEYS[1] the time at which the dataset was first used -> the dataset's age in ms
DATASET_AGE = _timed("""
local since = tonumber(redis.call('GET', KEYS[1]) or now)
if not (since and since >= 0 and since <= now) then since = now end
redis.call('SET', KEYS[1], since)
return now - since
""")

# KEYS[1] sorted set of workers by their last registration; ARGV ms until one expires, workers to register -> all workers
REGISTER_WORKER = _timed("""
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")

# KEYS[1] hash of installations, each "first seen, last seen (ms), description"; ARGV ms until one is forgotten, id and
# description of one to register, or "" -> ids and values
REGISTER_INSTALLATION = _timed("""
if redis.call('HLEN', KEYS[1]) > 1000 then redis.call('DEL', KEYS[1]) end
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('HSTRLEN', KEYS[1], id) > 1000000 then redis.call('HDEL', KEYS[1], id) end
end
local found = redis.call('HGETALL', KEYS[1])
local since = now
for i = 1, #found, 2 do
  local first, last = string.match(found[i + 1], '^(%d+) (%d+) ')
  if not last or now - last > tonumber(ARGV[1]) or tonumber(last) > now then
    redis.call('HDEL', KEYS[1], found[i])
  elseif found[i] == ARGV[2] then
    since = first
  end
end
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f %.0f ', since, now) .. ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return redis.call('HGETALL', KEYS[1])
""")

# KEYS[1] a lock, then locks to release; ARGV token, seconds until it expires, tokens of the locks to release -> owner's token
# A lock that lasts longer than inboxd's own is none.
ACQUIRE_LOCK = """
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i + 1] then redis.call('DEL', KEYS[i]) end
end
local ttl = redis.call('TTL', KEYS[1])
if ttl == -1 or ttl > tonumber(ARGV[2]) then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2])
return redis.call('GET', KEYS[1])
"""

# KEYS[1] a lock; ARGV the owner's token
RELEASE_LOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
