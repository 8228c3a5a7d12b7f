"""Read any file that holds weights, without running code from it."""
