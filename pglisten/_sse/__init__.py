"""Server-Sent Events: the streams, the WSGI application and the registry of open streams."""
