"""Single values of the configuration: valid values with their result, and messages for invalid values."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from policies.mistakes import BadValueError
from worker.config.values import (
    Pause,
    read_digests,
    read_helper,
    read_id_of,
    read_instant,
    read_kind,
    read_name,
    read_paths,
    read_schedule,
    read_texts,
    read_timezone,
    read_true,
    read_words,
)

SHA256, SHA512 = f"sha256:{'a' * 64}", f"sha512:{'b' * 128}"
read_id = read_id_of("registry", "look at the console")
AN_INSTANT = 'write, for example, "2026-11-20T03:00:00Z"'
CRON = 'write minute, hour, day of month, month, day of week; for example "0 3 * * *"'


@pytest.mark.parametrize(
    ("read", "written", "value"),
    [
        (read_name, "production-1.eu", "production-1.eu"),
        (read_name, "a" * 63, "a" * 63),
        (read_kind, "oci", "oci"),
        (read_id, "crpvab5oob146rh73ilt", "crpvab5oob146rh73ilt"),
        (read_instant, "2026-11-20T03:00:00+03:00", datetime(2026, 11, 20, tzinfo=UTC)),
        (read_instant, "2026-11-20 03:00Z", datetime(2026, 11, 20, 3, tzinfo=UTC)),
        (read_schedule, "  0 3  * * MON-FRI ", "0 3 * * MON-FRI"),
        (read_schedule, "*/5 0-6 1,15 JUL WED", "*/5 0-6 1,15 JUL WED"),
        (read_timezone, "Europe/Moscow", "Europe/Moscow"),
        (read_paths, ["shop/api", "ml/**", "shop/api"], ("shop/api", "ml/**")),
        (read_digests, [SHA256, SHA512], (SHA256, SHA512)),
        (read_helper, "ecr-login", "ecr-login"),
        (read_words, ["/bin/password", "", "--x"], ("/bin/password", "", "--x")),
        (read_true, True, True),
    ],
)
def test_reads_valid_values(read: Callable[[object], object], written: object, value: object) -> None:
    assert read(written) == value


@pytest.mark.parametrize(
    ("read", "written", "message"),
    [
        (read_name, 5, "expected a name, got 5; write it in quotes"),
        (read_name, "a" * 64, "expected a name of letters, digits, '.', '_' and '-', at most 63, got "),
        (read_name, "-a", "expected a name of letters, digits, '.', '_' and '-', at most 63, got '-a'"),
        (read_name, "a/b", "expected a name of letters, digits, '.', '_' and '-', at most 63, got 'a/b'"),
        (read_name, "a\n", "expected a name of letters, digits, '.', '_' and '-', at most 63, got "),
        (read_kind, "yandex-cloud-registri", "expected yandex-container-registry, yandex-cloud-registry or oci, "
         "got 'yandex-cloud-registri'; did you mean yandex-cloud-registry?"),
        (read_id, "crp_1", "expected a registry's id of letters and digits, got 'crp_1'; look at the console"),
        (read_id, "", "expected a registry's id of letters and digits, got ''; look at the console"),
        (read_instant, "2026-11-20", "expected an instant, got the date '2026-11-20'; "
         'write the time too: "2026-11-20T00:00:00Z"'),
        (read_instant, "2026-11-20T03:00:00", "expected an instant with its time zone, got '2026-11-20T03:00:00'; "
         'write "2026-11-20T03:00:00Z" if it is UTC'),
        (read_instant, "0001-01-01T00:00:00+14:00",
         f"expected an instant, got '0001-01-01T00:00:00+14:00'; {AN_INSTANT}"),
        (read_instant, "yesterday", f"expected an instant, got 'yesterday'; {AN_INSTANT}"),
        (read_schedule, "0 3 * *", f"expected a cron line of five fields, got 4 in '0 3 * *'; {CRON}"),
        (read_schedule, "60 3 * * *", f"expected a cron line, got '60 3 * * *': its minute is invalid; {CRON}"),
        (
            read_schedule,
            "0 3 L * *",
            "L is not supported in a cron line, got '0 3 L * *'; write days as numbers or names",
        ),
        (read_schedule, "0 3 31 2 *", f"expected a cron line, got '0 3 31 2 *': its day of month is invalid; {CRON}"),
        (read_timezone, "Europe/Moskow", "there is no time zone 'Europe/Moskow'; did you mean Europe/Moscow?"),
        (read_timezone, "../etc/passwd", "there is no time zone '../etc/passwd'; write, for example, Europe/Moscow"),
        (read_paths, ["re:.*"], "expected globs on repositories' paths, got 're:.*'; write, for example, ml/**"),
        (read_paths, [], "expected a list of repositories, got an empty list; "
         "write, for example, [shop/api, ml/**], or leave the key out"),
        (read_digests, ["sha256:abc"],
         "expected a digest, got 'sha256:abc'; write the whole digest, as the plan shows it: sha256:…"),
        (read_helper, "docker-credential-gcr", "expected the name of a helper, got 'docker-credential-gcr'; write gcr"),
        (read_helper, "../x", "expected the name of a helper, got '../x'; write, for example, ecr-login"),
        (read_true, False, "expected true, got false; remove the key to turn it off"),
        (read_true, 1, "expected true, got 1; remove the key to turn it off"),
    ],
)  # fmt: skip
def test_refuses_invalid_values(read: Callable[[object], object], written: object, message: str) -> None:
    with pytest.raises(BadValueError) as raised:
        read(written)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("written", ["get hunter2", [], ["", "hunter2"], [5, "hunter2"], ["get", "hunter2\0"], None])
def test_never_shows_the_words_of_a_command(written: object) -> None:
    with pytest.raises(BadValueError, match="expected a list of a program and its arguments") as raised:
        read_words(written)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("written", ["a", [""], ["  "], ["a" * 5000], [5], [None]])
def test_refuses_values_that_are_not_a_list_of_texts(written: object) -> None:
    with pytest.raises(BadValueError, match="expected"):
        read_texts(written, "names", "production")


@pytest.mark.parametrize(("written", "refused"), [("1s", False), ("2h", False), ("0s", True)])
def test_refuses_a_duration_under_one_second(written: str, refused: bool) -> None:
    pause = TypeAdapter(Pause)
    if refused:
        with pytest.raises(ValidationError, match="expected a duration of at least 1s, got 0s"):
            pause.validate_python(written, context={})
    else:
        assert pause.validate_python(written, context={}) >= timedelta(seconds=1)
