"""One file a format that requests and responses may have; `table` lists them, and a new one begins there."""
