"""The kernel, one facility a file.  Acts, and decides nothing."""
