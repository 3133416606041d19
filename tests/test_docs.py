"""The documentation against the code: every example loads, every key, metric, cause and dependency is named."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from policies.decide import Cause
from policies.document import parse_policy
from policies.findings import Form
from policies.forms import DeleteConditions, KeepConditions, RuleForm
from policies.limits import Limits
from worker.cli import SECTIONS
from worker.config import document, registry
from worker.config.settings import ConfigError, load
from worker.web.metrics import COUNTERS, FAILURE_CAUSES, GAUGES, LIMITS, MODES, RUN_OUTCOMES, SKIP_CAUSES, TRIGGERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md")
DECISIONS = tuple(sorted((ROOT / "docs" / "decisions").glob("*.md")))
each_page = pytest.mark.parametrize(
    "path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in (*PAGES, *DECISIONS)]
)
MODELS: tuple[type[Form], ...] = (
    document.Document,
    document.Web,
    document.Timing,
    document.Retention,
    document.Notification,
    registry.RegistryKeys,
    registry.Credentials,
    registry.WorkloadIdentity,
    registry.EndpointKeys,
    registry.Rate,
    registry.AfterRun,
    registry.EvidenceSettings,
    Limits,
)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Every fenced block of that kind, with its page and line."""
    for path in PAGES:
        text = path.read_text()
        for block in re.finditer(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}", block[1]


def examples(shape: type) -> list[Any]:
    loaded = [(where, text, yaml.safe_load(text)) for where, text in blocks("yaml")]
    return [pytest.param(text, id=where) for where, text, tree in loaded if isinstance(tree, shape)]


FILES = [example for example in examples(dict) if example.values[0].startswith("# registry-gc.yaml")]


@pytest.mark.parametrize("text", FILES)
def test_a_file_in_the_documentation_has_no_mistake(text: str, tmp_path: Path) -> None:
    secrets = {"redis-url": "redis://127.0.0.1:6379/0", "store-url": "postgresql+psycopg://u@127.0.0.1/d"}
    for name in re.findall(r"\{file: ([\w.-]+)\}", text):
        (tmp_path / name).write_text(secrets.get(name, "{}"))
    path = tmp_path / "registry-gc.yaml"
    path.write_text(text)
    try:
        settings = load(path, environ={"XDG_STATE_HOME": str(tmp_path)})
    except ConfigError as error:
        pytest.fail(str(error))
    assert settings.registries


@pytest.mark.parametrize("text", examples(list))
def test_a_policy_in_the_documentation_has_no_mistake(text: str) -> None:
    policy, mistakes = parse_policy("example", yaml.safe_load(text), "example")
    assert not mistakes
    assert policy is not None


def test_there_are_examples() -> None:
    assert len(FILES) >= 3
    assert len(examples(list)) >= 8


@pytest.mark.parametrize("model", [pytest.param(model, id=model.__name__) for model in MODELS])
def test_every_key_of_the_file_is_in_the_reference(model: type[Form]) -> None:
    known = {key for row in re.findall(r"^\|([^|]*)\|", page("configuration.md"), re.MULTILINE) for key in ticked(row)}
    assert model.model_fields.keys() <= known


def ticked(text: str) -> list[str]:
    """Words in backquotes; of `tags: [pattern…]` the key."""
    return [word.split(":")[0] for word in re.findall(r"`([^`]*)`", text)]


def test_every_condition_is_in_the_reference() -> None:
    known = {key for row in re.findall(r"^\|([^|]*)\|", page("policies.md"), re.MULTILINE) for key in ticked(row)}
    assert {*DeleteConditions.model_fields, *KeepConditions.model_fields, *RuleForm.model_fields} <= known


def test_every_cause_of_a_verdict_is_explained() -> None:
    assert set(get_args(Cause)) <= set(ticked(page("policies.md")))


def test_every_metric_is_explained_and_no_other() -> None:
    counters = {f"registry_gc_{metric.name}_total" for metric in COUNTERS}
    gauges = {f"registry_gc_{metric.name}" for metric in GAUGES}
    own = {"registry_gc_beat_heartbeat_timestamp_seconds", "registry_gc_build_info"}
    named = re.findall(r"^\| `(registry_gc_\w+)` \|", page("metrics.md"), re.MULTILINE)
    assert sorted(named) == sorted(counters | gauges | own)


def test_every_value_of_a_label_is_named() -> None:
    text = page("metrics.md")
    rows = text[text.index("## Label values") : text.index("## Questions")]
    for values in (RUN_OUTCOMES, TRIGGERS, MODES, SKIP_CAUSES, FAILURE_CAUSES, LIMITS):
        assert ", ".join(f"`{value}`" for value in values) in rows


def test_every_cause_of_a_failed_image_says_what_to_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", page("runs.md"), re.MULTILINE)
    assert set(FAILURE_CAUSES) <= set(rows)


def test_every_direct_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    wanted = [*project["project"]["dependencies"], *(package for group in groups for package in group)]
    names = {re.split(r"[\[<>=]", package)[0] for package in wanted}
    rows = re.findall(r"^\|([^|]*)\|", page("dependencies.md"), re.MULTILINE)
    known = {name.strip().split("\\[")[0] for row in rows for name in row.split(",")}
    assert names <= known


def test_every_command_in_the_documentation_is_there() -> None:
    commands = {name for section in SECTIONS.values() for name in section}
    text = "\n".join(path.read_text() for path in PAGES)
    assert set(re.findall(r"(?:^|`|/bin/)registry-gc ([a-z]+)", text, re.MULTILINE)) == commands


@each_page
def test_links_between_pages_lead_to_a_page_and_a_heading(path: Path) -> None:
    text = path.read_text()
    broken = []
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        linked = path.parent / target if target else path
        if not linked.exists() or (anchor and anchor not in headings(linked.read_text())):
            broken.append(f"{target}#{anchor}")
    assert broken == []


@each_page
def test_files_that_a_page_names_exist(path: Path) -> None:
    named = set(re.findall(r"`((?:worker|policies|tests|deploy|docs)/[\w./-]*)`", path.read_text()))
    assert {name for name in named if not (ROOT / name).exists() and name not in OF_THE_EXAMPLE} == set()


OF_THE_EXAMPLE = {"worker/registries/example.py"}  # the driver that docs/adding-a-registry.md writes


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", without_fences(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def without_fences(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


@each_page
def test_prose_has_at_most_120_characters_a_line(path: Path) -> None:
    lines = without_fences(path.read_text()).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.lstrip().startswith("|")] == []


PRIVATE_WORDS = re.compile(
    r"\b(bells?|rung|jury|letterbox|memoir|strays|untold|doubts?|doubtful|believed?|told|heard|lies|stands?|whoever)\b"
)


@each_page
def test_prose_has_no_private_words(path: Path) -> None:
    lines = without_fences(path.read_text()).splitlines()
    assert [line for line in lines if PRIVATE_WORDS.search(re.sub(r"`[^`]*`", "", line))] == []


def test_every_page_is_linked_from_its_index() -> None:
    for index in (ROOT / "docs" / "README.md", ROOT / "docs" / "decisions" / "README.md"):
        pages = {path.name for path in index.parent.glob("*.md")} - {index.name}
        assert pages <= set(re.findall(r"\]\(([^)#:]+)\)", index.read_text()))
    assert "decisions/README.md" in (ROOT / "docs" / "README.md").read_text()


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in PAGES if path.parent.name == "docs"])
def test_a_page_begins_with_what_its_reader_can_do_after_it(path: Path) -> None:
    assert re.match(r"# .+\n\nAfter this page you (can|have|know) ", path.read_text())


def test_the_messages_that_troubleshooting_quotes_exist() -> None:
    text = page("troubleshooting.md")
    rows = text[text.index("## Messages of a run") : text.index("## An image was skipped")]
    sources = [path.read_text() for folder in ("policies", "worker") for path in (ROOT / folder).rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))  # adjacent literals are one message
    quoted = set(re.findall(r"^\| `([^`]+)` \|", rows, re.MULTILINE)) - {"database or disk is full"}  # of SQLite
    assert len(quoted) >= 20
    assert {message for message in quoted if message not in code} == set()


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: `make services` does it for root"
)
def test_the_queries_are_prometheus_queries(tmp_path: Path) -> None:
    text = page("metrics.md")
    rows = re.findall(r"^\| [^|]+\? \| `(.+)` \|$", text[text.index("## Questions") :], re.MULTILINE)
    assert len(rows) >= 6
    rules = [{"record": f"q{number}", "expr": row.replace("\\|", "|")} for number, row in enumerate(rows)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "questions", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
