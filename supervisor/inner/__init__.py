"""What the master has processes of its own for: each is the target of an inner pool.

They are workers like any other, told their work over a channel, and are left last.
"""
