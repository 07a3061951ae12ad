"""What ``pglisten demo`` needs beside the library: a private PostgreSQL server."""
