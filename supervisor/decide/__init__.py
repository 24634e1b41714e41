"""The decision core: facts in, plan out.  No I/O, no clock, no fork."""
