"""`hold`, `holds`, `release`, `pause`, `resume`: a person's word, and that it outweighs rules and runs."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.runs import lifecycle
from worker.store import holds

DAY = timedelta(days=1)


@pytest.fixture
def filled(simulator):
    simulator.push("shop/api", tags=["v1.0.0"], layers=["base:1000", 10], age=100 * DAY)
    simulator.push("shop/api", tags=["pr-1"], layers=["base:1000", 200], age=52 * DAY)
    simulator.push("shop/web", tags=["pr-2", "pr-3"], layers=["base:1000", 300], age=20 * DAY)
    return simulator


def image(simulator, tag):
    return next(one for one in simulator.images() if tag in one["tags"])


def reference(simulator, form):
    one = image(simulator, "pr-2")
    docker = simulator.endpoints()["docker"].partition("://")[2]
    return {
        "address": f"{docker}/{simulator.registry_id}/shop/web:pr-3",
        "vendor": f"registry.yandexcloud.net/{simulator.registry_id}/shop/web@{one['digest']}",
        "tag and digest": f"shop/web:pr-3@{one['digest']}",
        "tag": "shop/web:pr-3",
        "digest": f"shop/web@{one['digest']}",
        "id": one["id"],
        "path": "shop/web",
        "glob": "**/web",
    }[form]


@pytest.mark.parametrize("form", ["tag", "digest", "id", "path", "glob", "address", "vendor", "tag and digest"])
def test_what_is_held_stays_until_it_is_released(filled, night, gc, form):
    made = night()
    made.sweep(dry_run=True)
    held = image(filled, "pr-2")
    done = gc(
        "hold", "production", reference(filled, form), "--reason", "the trial", "--who", "anna", "--format", "json"
    )
    assert (done.code, done.err) == (0, "")
    planned = gc("plan", "production", "--format", "json").json
    (decision,) = [one for one in planned["decisions"] if one["digest"] == held["digest"]]
    assert (decision["verdict"], decision["cause"]) == ("keep", "held")
    assert decision["reason"] == "held by anna: the trial"
    run = made.sweep()
    assert (run.planned, run.deleted) == (1, 1)

    number = done.json["id"]
    told = gc("release", str(number)).out
    assert told.startswith(f"released hold {number} on ")
    assert told.endswith(" of production\n")
    assert gc("holds").out == "Nothing is held.\n"
    assert made.sweep().deleted == 1


def test_a_held_tag_holds_what_it_named_and_whatever_gets_it(filled, night, gc):
    made = night()
    first = image(filled, "pr-1")
    gc("hold", "production", "shop/api:pr-1")
    filled.tag("shop/api", first["digest"], "pr-8")
    second = filled.push("shop/api", tags=["pr-1"], layers=[77], age=40 * DAY)
    run = made.sweep()
    left = {one["digest"] for one in filled.images()}
    assert {first["digest"], second["digest"]} <= left
    assert run.deleted == 1


def test_a_hold_that_ran_out_holds_nothing(filled, night, gc):
    made = night()
    tomorrow = (datetime.now(UTC) + DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert gc("hold", "production", "shop/**", "--until", tomorrow).code == 0
    later = (datetime.now(UTC) + 2 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert gc("plan", "production", "--format", "json").json["totals"]["delete"] == 0
    assert gc("plan", "production", "--format", "json", "--now", later).json["totals"]["delete"] == 2
    assert made.sweep().planned == 0


def test_a_date_is_held_to_its_end(filled, night, gc):
    night()
    found = gc("hold", "production", "shop/api:pr-1", "--until", "2999-12-24", "--format", "json").json
    assert found["until"] == "2999-12-25T00:00:00Z"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["hold", "staging", "a:b"], 2, "there is no registry 'staging' in"),
        (["hold", "production", "shop/[api"], 2, "'shop/[api' names no image and is no glob of repositories: "),
        (
            ["hold", "production", "shop/api:"],
            2,
            "'shop/api:': '' is not a tag; write path:tag, path@sha256:…, an image's id",
        ),
        (["hold", "production", "shop/api@sha256:abc"], 2, "'sha256:abc' is not a digest; write path:tag"),
        (["hold", "production", "host:5000/shop/api:v1"], 2, "is not in production, whose images are 127.0.0.1:"),
        (["hold", "production", "cr.yandex/other/shop/api:v1"], 2, "is not in production, whose images are 127.0.0.1:"),
        (["hold", "production", "a:b", "--until", "2020-01-01"], 2, "'2020-01-01' is over; name a time to come"),
        (["hold", "production", "a:b", "--until", "soon"], 2, "expected a time, got 'soon'"),
        (["hold", "production", "a:b", "--until", "99999999w"], 2, "expected a time, got '99999999w'"),
        (["hold", "production", "a:b", "--reason", "x" * 501], 2, "expected at most 500 characters, got 501"),
        (["release", "7"], 2, "nothing is held by '7'; `registry-gc holds` shows what is"),
        (["release", "a", "b", "c"], 2, "give a hold's number, or REGISTRY and REFERENCE"),
        (["release", "production", "a:b"], 2, "nothing is held by 'production a:b'"),
        (["holds", "staging"], 2, "there is no registry 'staging' in"),
        (["pause", "staging"], 2, "there is no registry 'staging' in"),
        (["resume"], 1, "all registries together are not paused; `registry-gc holds` shows what is"),
        (["resume", "production"], 1, "production by itself is not paused"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be(filled, night, gc, words, code, line):
    night()
    done = gc(*words)
    assert (done.code, done.out) == (code, "")
    assert line in done.err
    assert done.err.count("\n") == 1


def test_nothing_known_is_held(filled, night, gc):
    night().sweep(dry_run=True)
    in_force = "the hold is in force all the same"
    done = gc("hold", "production", "no/such/*")
    assert done.err == f"warning: no repository matches no/such/* today; {in_force}\n"
    digest = "sha256:" + "7" * 64
    done = gc("hold", "production", f"shop/api@{digest}")
    assert done.err == f"warning: shop/api has no image {digest} today; {in_force}\n"
    number = "crp00000000000000000"
    done = gc("hold", "production", number)
    kind = "as long as the registry is of its kind"
    assert done.err == f"warning: no image with the id {number} was found; {in_force}, {kind}\n"
    done = gc("hold", "production", "shop/api:next")
    assert done.err == ("warning: no image of shop/api has the tag next today; it holds whatever gets it\n")


def test_a_registry_that_cannot_be_asked(filled, night, gc):
    made = night()
    made.sweep(dry_run=True)
    held = image(filled, "pr-1")
    made.rewrite(endpoints=filled.endpoints() | {"container_registry": "http://127.0.0.1:9"})
    done = gc("hold", "production", "shop/api:pr-1", "--format", "json")
    assert done.json["digest"] == held["digest"]
    assert done.err.startswith("warning: the registry could not be asked what is held today: ")
    assert done.err.endswith("; the newest plan was asked instead\n")


@pytest.mark.parametrize("all_of_them", [False, True], ids=["one", "all"])
def test_a_pause_deletes_nothing_and_still_plans(filled, night, gc, all_of_them):
    made = night()
    words = [] if all_of_them else ["production"]
    assert gc("pause", *words, "--reason", "moving house", "--who", "anna").code == 0
    run = made.sweep()
    assert (run.outcome, run.planned, run.deleted, run.skipped) == ("succeeded", 2, 0, 2)
    assert set(made.outcomes(run.id).values()) == {("skipped", "paused")}
    assert filled.requests(method="DELETE") == []
    told = gc("holds").out
    assert "paused by anna since" in told
    assert ": moving house; nothing is deleted there" in told
    assert gc("pause", *words, "--who", "bert").code == 0  # the first stays
    assert "paused by anna" in gc("holds").out

    resumed = gc("resume", *words, "--who", "carl")
    assert (resumed.code, "resumed by carl; " in resumed.out) == (0, True)
    assert made.sweep().deleted == 2
    assert gc("resume", *words).code == 1
    gc("pause", *words, "--who", "dora")
    again = gc("resume", *words, "--who", "emil", "--format", "json").json["resumed"]
    assert (again["who"], again["resumed_by"]) == ("dora", "emil")


def test_a_hold_and_a_pause_bind_a_run_that_is_deleting(filled, night, gc):
    made = night()
    run_id, bells = made.plan()
    left = made.ring(bells, until="gc.delete_batch")
    assert gc("hold", "production", "shop/api:pr-1").code == 0
    bell = left[0]
    assert gc("pause", "production").code == 0
    made.do(bell)
    assert gc("resume", "production").code == 0
    made.ring(left[1:])
    found = set(made.outcomes(run_id).values())
    assert found <= {("skipped", "paused"), ("skipped", "held"), ("deleted", None)}
    assert ("skipped", "paused") in found
    assert image(filled, "pr-1")


def test_holds_and_pauses_follow_a_registry_that_is_renamed(filled, night, gc):
    made = night()
    made.sweep(dry_run=True)
    assert gc("hold", "production", "shop/api:pr-1").code == 0
    assert gc("pause", "production").code == 0
    written = made.path.read_text()
    made.path.write_text(written.replace("production:", "prod:"))
    planned = gc("plan", "prod", "--format", "json").json
    assert [one["tags"] for one in planned["decisions"] if one["cause"] == "held"] == [["pr-1"]]
    opened = lifecycle.open_run(made.store, made.settings, "prod", trigger="command", now=datetime.now(UTC))
    made.ring(opened.bells)
    assert set(made.outcomes(opened.run_id).values()) == {("skipped", "paused")}


def test_a_lost_key_keeps_nobody_from_holding(filled, night, gc, tmp_path):
    made = night()
    (tmp_path / "token").unlink()
    for text in ("shop/api:pr-1", "shop/**"):
        done = gc("hold", "production", text)
        assert (done.code, done.out.count("\n")) == (0, 1)
        assert done.err.startswith("warning: the registry could not be asked what is held today: ")
    with made.store.read() as connection:
        assert len(holds.rows(connection, datetime.now(UTC))) == 2


def test_a_hold_alone_binds_a_run_that_is_deleting(filled, night, gc):
    made = night()
    run_id, bells = made.plan()
    left = made.ring(bells, until="gc.delete_batch")
    assert gc("hold", "production", "shop/api:pr-1", "--who", "anna").code == 0
    made.ring(left)
    kept = image(filled, "pr-1")
    outcomes = made.outcomes(run_id)
    assert outcomes.pop(kept["digest"]) == ("skipped", "held")
    assert set(outcomes.values()) == {("deleted", None)}
    (item,) = [one for one in made.items(run_id) if one.decision.digest == kept["digest"]]
    assert item.message == "held by anna"
