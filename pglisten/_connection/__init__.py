"""One connection at work: connecting, reading, commands, channels and the heartbeat."""
