"""The soak: a server under mixed traffic while things go wrong, and the promises of the README one by one."""
