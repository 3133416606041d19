"""`inventory`, and commands that list a registry without changing anything."""

import pytest

from tests.support.servers import free_port


def test_plan_and_inventory_create_no_store(mixed, make_harness, gc, tmp_path):
    made = make_harness()
    made.store.dispose()
    for file in tmp_path.glob("registry-gc.db*"):
        file.unlink()
    assert gc("plan", "production").code == 0
    assert gc("inventory", "production").code == 0
    assert list(tmp_path.glob("registry-gc.db*")) == []
    assert mixed.state()["deleted"] == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_registry_that_refuses_is_one_line_and_exit_code_1(simulator, make_harness, gc, status):
    simulator.fault("status", status=status)
    make_harness()
    for words in (["plan", "production"], ["inventory", "production"]):
        done = gc(*words)
        assert (done.code, done.out) == (1, "")
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("production: ")


def test_an_unreachable_registry_is_one_line_and_exit_code_1(make_harness, gc):
    make_harness(
        endpoints=dict.fromkeys(("container_registry", "operation", "iam", "docker"), f"http://127.0.0.1:{free_port()}")
    )
    done = gc("plan", "production")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)


def test_the_inventory_has_the_json_of_the_api(mixed, make_harness, gc):
    make_harness()
    done = gc("inventory", "production")
    assert (done.code, done.err) == (0, "")
    head, *images = done.lines
    assert list(head) == ["registry", "listed_at", "unreadable"]
    assert (head["registry"], head["unreadable"]) == ("production", [])
    names = [image["name"] for image in images]
    assert names == sorted(names)
    assert len(images) == 7
    assert all(isinstance(layer["size"], str) for image in images for layer in image.get("layers", []))
    (index,) = [image for image in images if "children" in image]
    assert index["tags"] == ["pr-7"]
    assert len(index["children"]) == 1
