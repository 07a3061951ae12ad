"""Service files: their settings, and the messages about wrong ones."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from pglisten._conninfo import ConnInfo
from pglisten._conninfo import servicefile as _servicefile
from pglisten.errors import ConfigurationError

SECRET = "qxv7zk9"


def write(folder: Path, *lines: str, name: str = ".pg_service.conf") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def refusal(dsn: str, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ConnInfo.parse(dsn, environ)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def no_files_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_servicefile, "SYSTEM_DIRECTORIES", ("/no/such", "/nor/such"))


def test_the_dsn_goes_over_the_service_over_the_variables_over_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, "[shop]", "host=service", "user=service", "port=6000", "dbname=service")
    environ = {"HOME": str(tmp_path), "PGUSER": "env", "PGHOST": "env", "PGAPPNAME": "env", "PGPORT": "x"}
    info = ConnInfo.parse("service=shop user=dsn", environ)
    assert (info.user, info.host, info.port, info["application_name"]) == ("dsn", "service", 6000, "env")
    assert info.sslmode == "prefer"


def test_an_empty_value_in_a_service_hides_the_variable(tmp_path: Path) -> None:
    write(tmp_path, "[shop]", "options=")
    environ = {"HOME": str(tmp_path), "PGOPTIONS": "-c x=1", "PGSERVICE": "shop"}
    assert ConnInfo.parse("", environ)["options"] == ""


def test_the_service_of_the_dsn_goes_over_that_of_the_variable(tmp_path: Path) -> None:
    write(tmp_path, "[a]", "user=a", "[b]", "user=b")
    environ = {"HOME": str(tmp_path), "PGSERVICE": "a"}
    assert ConnInfo.parse("", environ).user == "a"
    assert ConnInfo.parse("service=b", environ).user == "b"
    assert ConnInfo.parse("postgresql://h/?service=b", environ).user == "b"


def test_the_systems_file_is_in_one_of_the_directories_of_usual_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", "[shop]", "user=system", name="pg_service.conf")
    monkeypatch.setattr(_servicefile, "SYSTEM_DIRECTORIES", ("/no/such", str(tmp_path / "etc")))
    assert ConnInfo.parse("service=shop", {"HOME": "/none"}).user == "system"
    # If libpq is given the directory, it uses no other.
    assert "is set, and there is no service file" in refusal(
        "service=shop", {"HOME": "/none", "PGSYSCONFDIR": "/none"}
    )


def test_several_hosts_may_come_from_a_service(tmp_path: Path) -> None:
    write(tmp_path, "[shop]", "host=a,b", "port=1,2", "target_session_attrs=primary")
    info = ConnInfo.parse("service=shop dbname=d", {"HOME": str(tmp_path)})
    assert (info.description, info.target_session_attrs) == ("a:1,b:2/d", "primary")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"{SECRET}", "not a libpq keyword and its value, keyword=value without blanks"),
        (
            f"{SECRET}=x",
            'not a libpq keyword and its value, keyword=value without blanks: see "Parameter Key Words"',
        ),
        (
            f"hots={SECRET}",
            "not a libpq keyword and its value, keyword=value without blanks: did you mean host?",
        ),
        (
            f"password = {SECRET}",
            "not a libpq keyword and its value, keyword=value without blanks: did you mean password?",
        ),
        ("service=other", "a service cannot name another service: write the other's settings there"),
        (
            f"ldap://db/dc=x?{SECRET}",
            "LDAP lookup of a service is not supported: write its settings there",
        ),
        (f"password={SECRET}{'x' * 1020}", "over 1022 bytes, which libpq does not read: shorten it"),
        (f"password={SECRET}\0", "the value of password contains a NUL character: remove it"),
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_not_repeated(
    tmp_path: Path, line: str, complaint: str
) -> None:
    file = write(tmp_path, "# mine", "[shop]", "user=app", line)
    message = refusal("service=shop", {"HOME": str(tmp_path)})
    assert message.startswith(f"service file {file}, line 4: {complaint}")


def test_a_value_that_is_not_utf8_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / ".pg_service.conf"
    file.write_bytes(b"[shop]\npassword=" + SECRET.encode() + b"\xff\n")
    message = refusal("service=shop", {"HOME": str(tmp_path)})
    assert message == f"service file {file}, line 2: the value of password is not UTF-8"


def test_a_wrong_value_is_reported_with_the_file_it_is_from(tmp_path: Path) -> None:
    file = write(tmp_path, "[{shop}]", "sslmode=full", name="{odd}.conf")
    environ = {"PGSERVICEFILE": str(file)}
    assert refusal("service={shop}", environ).startswith(f"sslmode in service file {file} is 'full': write")
    # The DSN takes precedence, so this value is not checked.
    assert ConnInfo.parse("service={shop} sslmode=prefer", environ).sslmode == "prefer"


def test_other_services_may_have_lines_that_are_wrong(tmp_path: Path) -> None:
    write(tmp_path, "nonsense", "[a]", "nonsense", "[shop]", "user=app", "[b]", "nonsense")
    assert ConnInfo.parse("service=shop", {"HOME": str(tmp_path)}).user == "app"


def test_a_service_that_is_nowhere_is_refused_with_the_files_that_were_searched(tmp_path: Path) -> None:
    file = write(tmp_path, "[other]")
    environ = {"HOME": str(tmp_path)}
    assert refusal("service=shop", environ) == (
        f"service 'shop' is not in {file}: add a section [shop] to ~/.pg_service.conf, "
        "or set PGSERVICEFILE to another file"
    )
    (tmp_path / "etc").mkdir()
    system = write(tmp_path / "etc", "[other]", name="pg_service.conf")
    message = refusal("service=shop", {**environ, "PGSYSCONFDIR": str(tmp_path / "etc")})
    assert message.startswith(f"service 'shop' is not in {file} or {system}: ")
    assert refusal("service=shop", {"HOME": "/none"}).startswith(
        "service 'shop' is set, and there is no service file: "
    )


def test_a_file_that_is_named_has_to_be_there() -> None:
    assert refusal("service=shop", {"PGSERVICEFILE": "/no/such"}) == (
        "service file '/no/such' cannot be read: No such file or directory: "
        "correct PGSERVICEFILE or the file's permissions"
    )


def test_an_empty_name_is_refused_where_it_is_written() -> None:
    assert refusal("service=''", {"PGSERVICE": "x"}).startswith("service is empty: write a service's name")
    assert refusal("", {"PGSERVICE": ""}).startswith("PGSERVICE is empty: write a service's name")


def test_without_a_service_no_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, "[", "nonsense")
    assert ConnInfo.parse("user=app", {"HOME": str(tmp_path), "PGSERVICEFILE": "/no/such"}).user == "app"
