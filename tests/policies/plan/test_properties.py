"""Properties of every plan, on generated registries."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from policies.graph import build_graph, merge_rows, subjects_of
from policies.image import Repository, Unreadable
from policies.plan import Decision
from policies.registry_summary import summarize, survey_of
from policies.rules import Policy
from tests.support.builders import NOW, add_up, policy
from tests.support.planning import WholePlan, composed, decide, make_plan
from tests.support.strategies import documents, keep_rules, policies, registries

Key = tuple[str, str]  # repository, digest


def deleted(plan: WholePlan) -> set[Key]:
    return {(decision.repository, decision.digest) for decision in plan.decisions if decision.verdict == "delete"}


def by_key(plan: WholePlan) -> dict[Key, Decision]:
    return {(decision.repository, decision.digest): decision for decision in plan.decisions}


def without(repositories: list[Repository], gone: set[Key]) -> list[Repository]:
    return [
        replace(repo, images=tuple(image for image in repo.images if (repo.path, image.digest) not in gone))
        for repo in repositories
    ]


def owners(repository: Repository) -> dict[str, set[str]]:
    """The images that need each image, computed as plainly as possible."""
    images = {image.digest: image for image in merge_rows(repository.images)}
    needs: dict[str, set[str]] = defaultdict(set)
    for image in images.values():
        for child in image.children or () if image.children is not UNSET else ():
            needs[child].add(image.digest)
        for subject in subjects_of(image):
            if subject in images:
                needs[image.digest].add(subject)
    return needs


@given(registries(), policies(), st.integers(0, 2))
def test_no_kept_image_loses_an_image_that_it_needs(repositories: list[Repository], rules: Policy, keep: int) -> None:
    plan = make_plan(repositories, rules, NOW, keep_per_repository=keep)
    gone = deleted(plan)
    everywhere = {image.digest for repo in repositories for image in repo.images}
    for repo in repositories:
        unreadable = any(image.children is None for image in merge_rows(repo.images))
        here = {image.digest for image in repo.images}
        for image in merge_rows(repo.images):
            if (repo.path, image.digest) in gone:
                assert not unreadable
                assert not image.locked
                assert all((repo.path, owner) in gone for owner in owners(repo)[image.digest])
                assert all(subject in here or subject not in everywhere for subject in subjects_of(image))


@given(registries(), documents(), keep_rules(), st.integers(0, 3))
def test_one_more_keep_rule_never_deletes_more(
    repositories: list[Repository], rules: list[dict[str, object]], more: dict[str, object], place: int
) -> None:
    fewer = deleted(make_plan(repositories, policy(*rules), NOW))
    extended = [*rules[:place], more | {"name": "more"}, *rules[place:]]
    named = [{"name": str(number)} | rule for number, rule in enumerate(extended)]
    assert deleted(make_plan(repositories, policy(*named), NOW)) <= fewer


@given(registries(), documents(), st.randoms(use_true_random=False), st.integers(0, 2))
def test_the_order_of_rows_repositories_and_rules_never_matters(
    repositories: list[Repository], rules: list[dict[str, object]], random, keep: int
) -> None:
    plan = make_plan(repositories, policy(*rules), NOW, keep_per_repository=keep)
    shuffled = [replace(repo, images=tuple(random.sample(repo.images, len(repo.images)))) for repo in repositories]
    random.shuffle(shuffled)
    assert make_plan(shuffled, policy(*rules), NOW, keep_per_repository=keep) == plan
    other = random.sample(rules, len(rules))
    assert deleted(make_plan(shuffled, policy(*other), NOW, keep_per_repository=keep)) == deleted(plan)


@given(registries(), policies(), st.sets(st.sampled_from(["a", "ml/big", "gone"])))
def test_counts_the_same_bytes_as_plain_sets(repositories: list[Repository], rules: Policy, failed: set[str]) -> None:
    unreadable = [Unreadable(repository=path, reason="a time-out") for path in failed]
    plan = make_plan(repositories, rules, NOW, unreadable=unreadable)
    gone = deleted(plan)
    sizes: dict[str, int] = {}
    staying, going, counted = set(), set(), set()
    for repo in repositories:
        for image in repo.images:
            for blob in image.layers if image.config is None else (*image.layers, image.config):
                sizes[blob.digest] = min(blob.size, sizes.get(blob.digest, blob.size))
                (going if (repo.path, image.digest) in gone else staying).add(blob.digest)
                if repo.path not in failed:
                    counted.add(blob.digest)
    assert plan.totals.reclaimable_bytes == sum(sizes[blob] for blob in going - staying)
    assert plan.totals.registry_bytes == sum(sizes[blob] for blob in counted)
    counted = [decision for decision in plan.decisions if decision.repository not in failed]
    assert plan.totals.images == len(counted) == plan.totals.keep + plan.totals.delete
    assert plan.totals.delete == len(gone)
    assert plan.totals.selected_bytes == sum(decision.size or 0 for decision in counted if decision.verdict == "delete")
    assert plan.complete is not bool(failed)


def agree_on_sizes(repositories: list[Repository]) -> bool:
    """Whether no blob has two sizes. The smaller size counts until the image that reports it is deleted."""
    images = [image for repo in repositories for image in repo.images]
    blobs = {blob for image in images for blob in (*image.layers, *([image.config] if image.config else []))}
    return len(blobs) == len({blob.digest for blob in blobs})


@given(registries(most=1).filter(agree_on_sizes), policies(counts=""))
def test_a_plan_after_its_own_deletions_is_empty(repositories: list[Repository], rules: Policy) -> None:
    gone = deleted(make_plan(repositories, rules, NOW))
    assert deleted(make_plan(without(repositories, gone), rules, NOW)) == set()


@given(registries(most=1).filter(agree_on_sizes), policies(counts="repository"))
def test_with_counts_a_plan_after_its_own_deletions_is_empty_if_kept_images_are_unchanged(
    repositories: list[Repository], rules: Policy
) -> None:
    """A tagged child that outlives its index is counted from then on; all others keep their places."""
    gone = deleted(make_plan(repositories, rules, NOW))
    left = without(repositories, gone)
    freed = any(
        owner
        for repo in repositories
        for digest, owner in owners(repo).items()
        if (repo.path, digest) not in gone
        and any(image.digest == digest for image in repo.images)
        and any((repo.path, o) in gone for o in owner)
    )
    if not freed:
        assert deleted(make_plan(left, rules, NOW)) == set()


@given(registries(), policies(), st.data())
def test_removing_a_fact_deletes_no_image_that_was_kept(
    repositories: list[Repository], rules: Policy, data: st.DataObject
) -> None:
    rows = [(repo.path, image) for repo in repositories for image in repo.images]
    if not rows:
        return
    path, image = data.draw(st.sampled_from(rows))
    fact = data.draw(st.sampled_from(["created_at", "compressed_size", "children"]))

    def forgetful(repo: Repository) -> Repository:
        return replace(
            repo,
            images=tuple(replace(row, **{fact: None}) if row.digest == image.digest else row for row in repo.images),
        )

    kept = by_key(make_plan(repositories, rules, NOW))[path, image.digest].verdict == "keep"
    again = [forgetful(repo) if repo.path == path else repo for repo in repositories]
    assert not kept or by_key(make_plan(again, rules, NOW))[path, image.digest].verdict == "keep"


@given(registries(), policies(), st.integers(0, 1))
def test_deciding_repository_by_repository_gives_the_same_plan(
    repositories: list[Repository], rules: Policy, keep: int
) -> None:
    plan = make_plan(repositories, rules, NOW, keep_per_repository=keep)
    known = summarize([survey_of(build_graph(repo), rules, NOW) for repo in reversed(repositories)], rules)
    decided = [decide(repo, rules, NOW, known, keep_per_repository=keep) for repo in repositories]
    composition, kept = composed(repositories, rules, NOW, keep_per_repository=keep)
    assert {path: part.decisions for path, part in kept.items()} == {part.path: part.decisions for part in decided}
    assert composition.totals == plan.totals
    assert {part.path: part.decisions for part in decided if part.decisions} == {
        path: tuple(made for made in plan.decisions if made.repository == path)
        for path in {made.repository for made in plan.decisions}
    }
    summed = add_up(part.totals for part in reversed(decided))
    assert summed.totals == plan.totals
    references: dict[int, int] = defaultdict(int)
    for part in decided:
        for deletion in part.deletions:
            waves = {other.decision.digest: other.wave for other in part.deletions}
            assert deletion.wave == max((waves[owner] + 1 for owner in deletion.owners), default=0)
            numbers = summed.freed_blobs(deletion.image)
            assert len(set(numbers.values())) == len(numbers)
            for number in numbers:
                references[number] += 1
    assert sum(summed.size(number) for number in references) == summed.totals.reclaimable_bytes
    assert all(summed.references(number) == count for number, count in references.items())


@settings(max_examples=30)
@given(registries(), policies())
def test_every_verdict_has_its_cause_rule_and_reason(repositories: list[Repository], rules: Policy) -> None:
    kinds = {rule.name: rule.kind for rule in rules.rules}
    for decision in make_plan(repositories, rules, NOW).decisions:
        assert decision.reason
        assert (decision.verdict == "delete") is (decision.cause in ("selected", "follows"))
        assert (decision.rule is not None) is (decision.cause in ("kept_by_rule", "selected", "follows"))
        if decision.rule is not None:
            assert kinds[decision.rule] == ("keep" if decision.verdict == "keep" else "delete")
        assert bool(decision.needed_by) is (decision.cause == "needed")
        assert list(decision.needed_by) == sorted(decision.needed_by)
