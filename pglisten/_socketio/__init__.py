"""What `pglisten.socketio` is made of: the messages of a process on their way out, and those that come in."""
