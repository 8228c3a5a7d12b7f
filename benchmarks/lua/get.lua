-- GET, to see what a server's front costs by itself.
local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$")
dofile(here .. "/result.lua")
