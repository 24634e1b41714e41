"""Programs to run under supervisord-lite, and to start your own from."""
