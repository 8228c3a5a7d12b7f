-- Several requests in turn, each formatted once.
-- Arguments: method, then for each request its body's file, its number of headers, their names and values.
local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$")
dofile(here .. "/result.lua")

local requests, turn = {}, 0

function init(args)
  local i = 2
  while i <= #args do
    local body, count, headers = read_file(args[i]), tonumber(args[i + 1]), {}
    for pair = 0, count - 1 do headers[args[i + 2 + 2 * pair]] = args[i + 3 + 2 * pair] end
    requests[#requests + 1] = wrk.format(args[1], nil, headers, body)
    i = i + 2 + 2 * count
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
