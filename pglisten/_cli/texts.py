"""The help texts of ``pglisten``. A test compares their width with a terminal's."""

from __future__ import annotations

DSN_VARIABLE = "PGLISTEN_DSN"
"""Environment variable with the connection string, used if no option has one."""

MAIN = """\
PostgreSQL LISTEN/NOTIFY on the command line.

examples:
  pglisten demo                                 see it work; needs no PostgreSQL
  pglisten doctor                               find out why nothing arrives
  pglisten listen orders                        print what arrives on "orders"
  pglisten notify orders 'number 17'            send a notification to "orders"
  pglisten log create events                    entries that no reader misses
  pglisten listen --json orders | jq .payload   pipe notifications to a program
"""

ENVIRONMENT = f"""\
environment:
  {DSN_VARIABLE}      connection string, or package.module:function that returns
                    one; used without --dsn
  PGLISTEN_BACKEND  backend, used without --backend
  PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, ...
                    as in psql: for settings that the connection string omits
  NO_COLOR          if not empty, doctor and demo print without colours

exit status:
  0    success; listen, log follow and demo: also after Ctrl-C, SIGTERM, or the
       end of the program that read the output
  1    the server cannot be reached or refused, or the output cannot be written;
       doctor: a check failed
  2    usage or configuration error, or no command
  124  listen, log follow: the time of --timeout was over too early
  130  Ctrl-C; SIGTERM is 143: notify, log, doctor; listen and log follow with
       --count
"""

LISTEN = """\
Print each notification on standard output until Ctrl-C: time, channel, process
ID of the sender's server process, and payload, separated by tabs. Unprintable
characters are escaped and backslashes doubled, so that a payload is always one
line. For programs use --json. Channels have no patterns: name each one.

Standard error reports when the connection is made, lost and made again, and
"gap" where notifications may have been missed: PostgreSQL keeps none for a
disconnected listener. If the server cannot be reached, the command keeps
trying. If the server refuses the login or the database before the first
connection, it ends with status 1. Later it always tries again.

examples:
  pglisten listen orders stock
  pglisten listen -h db -U app -d shop orders
  pglisten listen --count 1 --timeout 30 --payload-only deployed || exit

exit status: 0 after --count notifications, after --timeout without --count, and
after Ctrl-C without --count; 1 if the server refuses; 124 if the time is over
and notifications are missing, or the server was not reached; 130 after Ctrl-C
with --count.
"""

NOTIFY = """\
Send one notification; return when the server has committed it. PostgreSQL does
not report whether any session listens.

If the payload is left out, it is empty, whatever standard input has.

examples:
  pglisten notify orders                 without a payload
  pglisten notify orders 'number 17'
  pglisten notify orders -- -17          a payload that begins with -
  date | pglisten notify orders -        a payload from standard input
"""

DOCTOR = """\
Check all that notifications need, in this order: configuration, driver, name
resolution, each host, TLS, version, encoding, poolers, LISTEN, delivery from a
second session and its latency, the server's queue, timeouts, free connections.
Each check prints a line: ok, warning or failed, the finding, and a remedy. A
check that needs a failed one is left out. The doctor uses its own channel.

exit status: 0 if no check failed (warnings are possible), 1 if a check failed,
130 after Ctrl-C. A function that --dsn names is called for the first session
and for the second; of its result, only host, database and user are printed.
"""

DEMO = """\
Serve a web page with two ledgers, through gunicorn with gevent workers, and
print its address: what arrives by notification alone, and what arrives by an
event log. Open it in two windows, send a message, and cut the workers off: see
which messages are lost, and which ledger has them. The workers use the
installed backends in turn. Ctrl-C ends the demo.

With --terminal it shows the same without a browser: one listener per backend,
a sender of notifications, and an outage half-way.

It runs a private PostgreSQL and removes it at the end (pip install
'pglisten[demo]' installs the programs). If an option names a server, it uses
that one, with its own channels, and ends only its own sessions. It makes tables
there only with --log, for the event log, and drops them at the end. It reads no
DSN from the environment.
"""

DSN = (
    f"connection string, key=value or URI, or package.module:function that returns one (default: "
    f"{DSN_VARIABLE}, then the PG* variables); other users of this machine can see a password in it: use "
    "PGPASSWORD"
)


BACKEND = "driver to use: psycopg2, psycopg, pg8000 or another installed one (default: the first)"

PRECEDENCE = """\
-d, -h, -p and -U replace parts of the connection string. As in psql, what a
connection string in -d sets takes precedence over -h, -p and -U.
"""
