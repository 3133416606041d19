"""`hold` keeps an image, whatever the rules say, also during a run."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.store import holds

DAY = timedelta(days=1)


def image(simulator, tag):
    return next(row for row in simulator.images() if tag in row["tags"])


def reference(simulator, form):
    held = image(simulator, "pr-2")
    docker = simulator.endpoints()["docker"].partition("://")[2]
    return {
        "address": f"{docker}/{simulator.registry_id}/shop/web:pr-3",
        "vendor": f"registry.yandexcloud.net/{simulator.registry_id}/shop/web@{held['digest']}",
        "tag and digest": f"shop/web:pr-3@{held['digest']}",
        "tag": "shop/web:pr-3",
        "digest": f"shop/web@{held['digest']}",
        "id": held["id"],
        "path": "shop/web",
        "glob": "**/web",
    }[form]


@pytest.mark.parametrize("form", ["tag", "digest", "id", "path", "glob", "address", "vendor", "tag and digest"])
def test_a_held_image_is_kept_until_the_release(filled, make_harness, gc, form):
    made = make_harness()
    made.sweep(dry_run=True)
    held = image(filled, "pr-2")
    done = gc(
        "hold", "production", reference(filled, form), "--reason", "the trial", "--who", "anna", "--format", "json"
    )
    assert (done.code, done.err) == (0, "")
    planned = gc("plan", "production", "--format", "json").json
    (decision,) = [row for row in planned["decisions"] if row["digest"] == held["digest"]]
    assert (decision["verdict"], decision["cause"]) == ("keep", "held")
    assert decision["reason"] == "held by anna: the trial"
    run = made.sweep()
    assert (run.planned, run.deleted) == (1, 1)

    number = done.json["id"]
    released = gc("release", str(number)).out
    assert released.startswith(f"released hold {number} on ")
    assert released.endswith(" of production\n")
    assert gc("holds").out == "No holds.\n"
    assert made.sweep().deleted == 1


def test_a_held_tag_keeps_its_present_and_its_later_image(filled, make_harness, gc):
    made = make_harness()
    first = image(filled, "pr-1")
    gc("hold", "production", "shop/api:pr-1")
    filled.tag("shop/api", first["digest"], "pr-8")
    second = filled.push("shop/api", tags=["pr-1"], layers=[77], age=40 * DAY)
    run = made.sweep()
    left = {row["digest"] for row in filled.images()}
    assert {first["digest"], second["digest"]} <= left
    assert run.deleted == 1


def test_an_expired_hold_keeps_nothing(filled, make_harness, gc):
    made = make_harness()
    tomorrow = (datetime.now(UTC) + DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert gc("hold", "production", "shop/**", "--until", tomorrow).code == 0
    later = (datetime.now(UTC) + 2 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert gc("plan", "production", "--format", "json").json["totals"]["delete"] == 0
    assert gc("plan", "production", "--format", "json", "--now", later).json["totals"]["delete"] == 2
    assert made.sweep().planned == 0


def test_a_hold_until_a_date_includes_the_date(filled, make_harness, gc):
    make_harness()
    hold = gc("hold", "production", "shop/api:pr-1", "--until", "2999-12-24", "--format", "json").json
    assert hold["until"] == "2999-12-25T00:00:00Z"


def test_hold_warns_if_the_reference_matches_nothing(filled, make_harness, gc):
    make_harness().sweep(dry_run=True)
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


def test_hold_uses_the_newest_plan_if_the_registry_is_unreachable(filled, make_harness, gc):
    made = make_harness()
    made.sweep(dry_run=True)
    held = image(filled, "pr-1")
    made.rewrite(endpoints=filled.endpoints() | {"container_registry": "http://127.0.0.1:9"})
    done = gc("hold", "production", "shop/api:pr-1", "--format", "json")
    assert done.json["digest"] == held["digest"]
    assert done.err.startswith("warning: the registry could not be asked what is held today: ")
    assert done.err.endswith("; the newest plan was asked instead\n")


def test_hold_works_without_the_registry_s_credentials(filled, make_harness, gc, tmp_path):
    made = make_harness()
    (tmp_path / "token").unlink()
    for text in ("shop/api:pr-1", "shop/**"):
        done = gc("hold", "production", text)
        assert (done.code, done.out.count("\n")) == (0, 1)
        assert done.err.startswith("warning: the registry could not be asked what is held today: ")
    with made.store.read() as connection:
        assert len(holds.active_rows(connection, datetime.now(UTC))) == 2


def test_a_hold_applies_to_a_run_that_is_deleting(filled, make_harness, gc):
    made = make_harness()
    run_id, task_calls = made.plan()
    left = made.carry_out(task_calls, until="gc.delete_batch")
    assert gc("hold", "production", "shop/api:pr-1", "--who", "anna").code == 0
    made.carry_out(left)
    kept = image(filled, "pr-1")
    outcomes = made.outcomes(run_id)
    assert outcomes.pop(kept["digest"]) == ("skipped", "held")
    assert set(outcomes.values()) == {("deleted", None)}
    (item,) = [row for row in made.items(run_id) if row.decision.digest == kept["digest"]]
    assert item.message == "held by anna"


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
        (["hold", "production", "a:b", "--until", "2020-01-01"], 2, "'2020-01-01' is in the past; give a later time"),
        (["hold", "production", "a:b", "--until", "soon"], 2, "expected a time, got 'soon'"),
        (["hold", "production", "a:b", "--until", "99999999w"], 2, "expected a time, got '99999999w'"),
        (["hold", "production", "a:b", "--reason", "x" * 501], 2, "expected at most 500 characters, got 501"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_hold_rejects_invalid_arguments(filled, make_harness, gc, words, code, line):
    make_harness()
    done = gc(*words)
    assert (done.code, done.out) == (code, "")
    assert line in done.err
    assert done.err.count("\n") == 1
