"""Connection strings with a password and a mistake that users make."""

from __future__ import annotations

from urllib.parse import quote

PLACE = "host=127.0.0.1 port=1 user=app dbname=shop"

SHAPES = [
    # As it is, where it has to be quoted or encoded.
    f"{PLACE} password={{raw}}",
    f"password={{raw}} {PLACE}",
    f"{PLACE} password='{{raw}}'",
    f"{PLACE} password='{{raw}}",
    f"{PLACE} password={{raw}}'",
    f'{PLACE} password="{{raw}}"',
    f"{PLACE} password = {{raw}} x",
    f"{PLACE} sslpassword={{raw}}",
    f"{PLACE} password={{encoded}} nonsense=1",
    "postgresql://app:{raw}@127.0.0.1:1/shop",
    "postgresql://app:{raw}@127.0.0.1:1,127.0.0.1:2/shop",
    "postgresql://127.0.0.1:1/shop?user=app&password={raw}",
    "postgresql://127.0.0.1:1/shop?password={raw}&user=app",
    "postgresql://127.0.0.1:1/shop?user=app&sslpassword={raw}",
    # Right itself, with a mistake somewhere else.
    "postgresql://app:{encoded}@127.0.0.1:1/shop?sslmode=nope",
    "postgresql://app:{encoded}@127.0.0.1:1/shop?nope=1",
    "postgresql://app:{encoded}@127.0.0.1:1/shop?nope",
    "postgresql://app:{encoded}@127.0.0.1:port/shop",
    "postgresql://app:{encoded}@127.0.0.1:0/shop",
    "postgresql://app:{encoded}@[::1/shop",
    "postgresql://app:{encoded}@127.0.0.1:1/%zz",
    "postgresql://app:{encoded}%zz@127.0.0.1:1/shop",
    "postgresql://app:{encoded}%ff@127.0.0.1:1/shop",
    "postgresql://app:{encoded}@127.0.0.1,127.0.0.2:1:2/shop",
    "postgresql://app:{encoded}\0@127.0.0.1:1/shop",
    "postgresql://app:{encoded}\ud800@127.0.0.1:1/shop",
    f"{PLACE} password={{encoded}} port=x",
    f"{PLACE} password={{encoded}} sslmode=verify-full sslrootcert=/nowhere",
    f"{PLACE} password={{encoded}} replication=database",
    f"{PLACE} password={{encoded}} gssencmode=require krbsrvname=x require_auth=none,none",
    f"{PLACE} password={{encoded}} service=nowhere",
    f"{PLACE} password={{encoded}} hostaddr=1,2",
    f"{PLACE} passwd={{encoded}}",
    f"{PLACE} Password={{encoded}}",
    f"{PLACE} pass word={{encoded}}",
    f"{PLACE} password {{encoded}}",
    f"{PLACE} password:{{encoded}}",
    # Punctuation of other languages' connection strings.
    "host=127.0.0.1;port=1;user=app;password={encoded}",
    "host=127.0.0.1;port=1;user=app;Password = {encoded};",
    "host=127.0.0.1,port=1,user=app,password={encoded}",
    "host=127.0.0.1&port=1&user=app&password={encoded}",
    "host=127.0.0.1 port=1 user=app;password={encoded}",
    "host=127.0.0.1 port=1 dbname=shop;password={encoded}",
    "host=127.0.0.1 port=1 sslmode=prefer;password={encoded}",
    "host=127.0.0.1 port=1;password={encoded}",
    "host=127.0.0.1 hostaddr=127.0.0.1;password={encoded}",
    "host=/nowhere;password={encoded}",
    "user=apppassword={encoded} host=127.0.0.1 port=1",
    "service=shop;password={encoded}",
    "application_name=x;password={encoded} host=127.0.0.1 port=1",
    "postgresql://127.0.0.1:1/shop;user=app;password={encoded}",
    "postgresql://127.0.0.1:1/shop&user=app&password={encoded}",
    "postgresql://app;password={encoded}@127.0.0.1:1/shop",
    "jdbc:postgresql://127.0.0.1:1/shop?user=app&password={encoded}",
    "Server=127.0.0.1;Port=1;User Id=app;Password={encoded};",
    # A URI that is none, or in the wrong place.
    "Postgresql://app:{encoded}@127.0.0.1:1/shop",
    "postgres:/app:{encoded}@127.0.0.1:1/shop",
    "postgresql+psycopg2://app:{encoded}@127.0.0.1:1/shop",
    "postgresql+psycopg2://app:{encoded}@127.0.0.1:1/shop?sslmode=prefer",
    " postgresql://app:{encoded}@127.0.0.1:1/shop",
    "'postgresql://app:{encoded}@127.0.0.1:1/shop'",
    "app:{encoded}@127.0.0.1:1/shop",
    "//app:{encoded}@127.0.0.1:1/shop",
    "postgresql://app:{encoded}127.0.0.1:1/shop",
    "postgresql://app:{encoded}",
    "postgresql://app:{encoded}/shop",
    "postgresql://127.0.0.1:1/app:{encoded}@shop",
    "postgresql://127.0.0.1:1?app:{encoded}",
    "dbname=postgresql://app:{encoded}@127.0.0.1:1/shop host=127.0.0.1 port=1",
    "host=postgresql://app:{encoded}@127.0.0.1:1/shop",
    "hostaddr=postgresql://app:{encoded}@127.0.0.1:1/shop",
    "user=postgres://app:{encoded}@127.0.0.1:1/shop host=127.0.0.1 port=1",
    "service=postgresql://app:{encoded}@127.0.0.1:1/shop",
    "sslmode=postgresql://app:{encoded}@127.0.0.1:1/shop",
    "host=app:{encoded}@127.0.0.1 port=1",
    "hostaddr=app:{encoded}@127.0.0.1 port=1",
]
"""With ``{raw}`` or ``{encoded}`` for the password."""


def malformed(shape: str, password: str) -> str:
    """Return a connection string of that shape."""
    return shape.replace("{raw}", password).replace("{encoded}", quote(password, safe=""))
