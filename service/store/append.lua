-- Appends events to one user's record (record.py has its form and the reference implementation).
-- KEYS[1]: the record. ARGV: now, time to live, most events, life of a tombstone (all but the third in ms),
-- then for each event: its time, its event id or '', its line.
-- Returns {stored, duplicate, stale}.
local now, ttl = tonumber(ARGV[1]), ARGV[2]
local max_events, tombstone = tonumber(ARGV[3]), tonumber(ARGV[4])

local deleted_at, count, newest, body = 0, 0, 0, ''
local record = redis.call('GET', KEYS[1])
if record then
  local header_end = string.find(record, '\n', 1, true) or 0
  local version, d, c, n = string.match(string.sub(record, 1, header_end), '^(%d+)\t(%d+)\t(%d+)\t(%d+)\n$')
  if version ~= '1' then
    return redis.error_reply('ERR not a sequence record of version 1')
  end
  deleted_at, count, newest = tonumber(d), tonumber(c), tonumber(n)
  body = string.sub(record, header_end + 1)
end
if now >= deleted_at + tombstone then
  deleted_at = 0
end

local function drop_oldest()
  body = string.sub(body, string.find(body, '\n', 1, true) + 1)
  count = count - 1
end

while count > max_events do -- the maximum may have been lowered
  drop_oldest()
end

-- Where a line of this time belongs: before the first later one. Only called when there is one.
local function position_of(time)
  local position = 1
  while tonumber(string.match(body, '^%d+', position)) <= time do
    position = string.find(body, '\n', position, true) + 1
  end
  return position
end

local stored, duplicate, stale = 0, 0, 0
for i = 5, #ARGV, 3 do
  local time, event_id, line = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local full = count >= max_events
  if (deleted_at > 0 and time <= deleted_at) or (full and time < tonumber(string.match(body, '^%d+'))) then
    stale = stale + 1
  elseif event_id ~= '' and string.find(body, '\t' .. event_id .. '\n', 1, true) then
    duplicate = duplicate + 1
  else
    if count == 0 or time >= newest then
      body, newest = body .. line, time
    else
      local position = position_of(time)
      body = string.sub(body, 1, position - 1) .. line .. string.sub(body, position)
    end
    count = count + 1
    if full then
      drop_oldest()
    end
    stored = stored + 1
  end
end

if stored > 0 then
  -- %.0f: Lua would write a large number with an exponent.
  local header = string.format('1\t%.0f\t%d\t%.0f\n', deleted_at, count, newest)
  redis.call('SET', KEYS[1], header .. body, 'PX', ttl)
end
return { stored, duplicate, stale }
