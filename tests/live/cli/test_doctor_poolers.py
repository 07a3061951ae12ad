"""``pglisten doctor`` behind imitations of poolers that acknowledge LISTEN and do not listen."""

from __future__ import annotations

import pytest

from pglisten._cli.doctor.poolers import name_told_by
from support.doctor import Examine
from support.fixtures.poolers import Imitate
from support.servers.poolers import BusyPgBouncerLike, OdysseyLike, PgBouncerLike, PgDogLike, PoolerLike


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        (PgDogLike, "PgDog", "ends before its last statement: a connection pooler in between"),
        (OdysseyLike, "Odyssey", "listens to 0 of 2 acknowledged channels: a connection pooler in between"),
        (BusyPgBouncerLike, "PgBouncer", "listens to 0 of 2 acknowledged channels: a connection pooler"),
    ],
)
def test_what_it_acknowledged_and_did_not_do_is_a_failure(
    examine: Examine, imitate: Imitate, kind: type[PoolerLike], name: str, found: str
) -> None:
    findings = examine(imitate(kind).dsn())
    assert findings.exit_status == 1
    assert findings.bad == {"pooler": "warning", "listen": "failed"}
    assert findings.says("pooler", f"^{name} is in between")
    assert findings.says("listen", found, "through a pool in session mode")
    assert findings["delivery"].status == "skipped"


def test_where_listen_stays_the_delivery_is_the_failure(examine: Examine, imitate: Imitate) -> None:
    findings = examine(imitate(PgBouncerLike).dsn(), timeout=1.0)
    assert findings.bad == {"pooler": "warning", "delivery": "failed"}
    assert findings.says("pooler", "^PgBouncer is in between")
    assert findings.says("delivery", "the pooler acknowledged LISTEN and drops notifications", "session mode")


def test_the_server_itself_has_no_poolers_name() -> None:
    assert name_told_by('FATAL:  database "pglisten_doctor" does not exist') is None
    assert name_told_by("FATAL:  Tenant or user not found") == "Supavisor"
