"""One file per format of requests and responses; `table` lists them, and a new format starts there."""
