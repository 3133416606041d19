"""Evidence from clusters, by the official client over real HTTP: all that names an image, or nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.api_server import GROUPS, TOKEN, ApiServer, certificate, kubeconfig
from worker.evidence import EvidenceError, Use
from worker.evidence.kubernetes import Timeouts, read

QUICK = Timeouts(total=30.0, silence=1.0, first_wait=0.01)
HASTY = Timeouts(total=30.0, silence=0.1, first_wait=0.01)
SHORT = Timeouts(total=1.0, silence=1.0, first_wait=0.01)
ENVIRON = {"HOME": "/nowhere"}
EXEC = "client.authentication.k8s.io/v1"
RIGHTS = "docs/evidence.md has the role that grants it"


def digest(letter):
    return f"sha256:{letter * 64}"


def containers(*images):
    return [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]


def pod_spec(*images, **more):
    return {"containers": containers(*images), "restartPolicy": "Always", **more}


def template(*images, **more):
    return {"template": {"metadata": {"labels": {"app": "x"}}, "spec": pod_spec(*images, **more)}}


def uses(settings, limits=QUICK):
    """The reading, as (digest or image, by)."""
    return [(use.digest or use.image, use.by) for use in read(settings, limits, ENVIRON).uses]


def failure(settings, limits=QUICK):
    with pytest.raises(EvidenceError) as raised:
        read(settings, limits, ENVIRON)
    text = str(raised.value)
    assert TOKEN not in text
    assert "\n" not in text
    return text.removeprefix("evidence cluster: ")


REVISION = {
    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x", "uid": "u", "controller": True}]
}


@pytest.mark.parametrize(
    ("resource", "kind", "rest"),
    [
        pytest.param("deployments", "Deployment", {"spec": template("a.io/x:v1")}, id="deployment"),
        pytest.param("statefulsets", "StatefulSet", {"spec": template("a.io/x:v1")}, id="stateful set"),
        pytest.param("daemonsets", "DaemonSet", {"spec": template("a.io/x:v1")}, id="daemon set"),
        pytest.param(
            "replicasets", "ReplicaSet", {"spec": {"replicas": 0} | template("a.io/x:v1")}, id="kept for roll-back"
        ),
        pytest.param(
            "replicationcontrollers", "ReplicationController", {"spec": template("a.io/x:v1")}, id="controller"
        ),
        pytest.param("jobs", "Job", {"spec": template("a.io/x:v1")}, id="job"),
        pytest.param(
            "cronjobs",
            "CronJob",
            {"spec": {"schedule": "* * * * *", "suspend": True, "jobTemplate": {"spec": template("a.io/x:v1")}}},
            id="cron job",
        ),
        pytest.param(
            "pods",
            "Pod",
            {"spec": pod_spec("a.io/x:v1"), "status": {"phase": "Pending"}},
            id="pod that does not run yet",
        ),
        pytest.param("pods", "Pod", {"spec": pod_spec(initContainers=containers("a.io/x:v1"))}, id="init container"),
        pytest.param(
            "pods", "Pod", {"spec": pod_spec(ephemeralContainers=containers("a.io/x:v1"))}, id="ephemeral container"
        ),
        pytest.param(
            "pods",
            "Pod",
            {
                "spec": pod_spec(
                    volumes=[
                        {"name": "v", "emptyDir": {}},
                        {"name": "v", "image": {"reference": "a.io/x:v1", "pullPolicy": "Always"}},
                    ]
                )
            },
            id="image volume",
        ),
        pytest.param(
            "deployments",
            "Deployment",
            {"spec": template(initContainers=containers("a.io/x:v1"))},
            id="init container of a template",
        ),
        pytest.param(
            "pods",
            "Pod",
            {"spec": pod_spec(None, ""), "status": {"containerStatuses": [{"image": "a.io/x:v1", "imageID": ""}]}},
            id="status alone",
        ),
    ],
)
def test_reads_every_kind_that_names_an_image(cluster, source, resource, kind, rest):
    cluster.add(resource, "x", "shop", **rest)
    assert uses(source()) == [("a.io/x:v1", f"prod/shop/{kind} x")]


def test_reads_the_revisions_of_a_stateful_set(cluster, source):
    cluster.add("controllerrevisions", "x-1", data={"spec": template("a.io/x:v1")}, revision=1)
    cluster.objects["controllerrevisions"][0]["metadata"] |= REVISION
    cluster.add("controllerrevisions", "other", data={"anything": ["its", "controller", "likes"]}, revision=1)
    assert uses(source()) == [("a.io/x:v1", "prod/default/ControllerRevision x-1")]


@pytest.mark.parametrize(
    ("image_id", "expected"),
    [
        pytest.param(f"docker-pullable://a.io/x@{digest('a')}", digest("a"), id="Docker, by the manifest"),
        pytest.param(f"docker://{digest('b')}", digest("b"), id="Docker, by the config"),
        pytest.param(f"a.io/x@{digest('c')}", digest("c"), id="containerd, by the index or the manifest"),
        pytest.param(digest("d"), digest("d"), id="containerd, by the config"),
        pytest.param("e" * 64, digest("e"), id="CRI-O, by the config"),
    ],
)
@pytest.mark.parametrize("which", ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"])
def test_reads_the_digest_of_a_pulled_image(cluster, source, which, image_id, expected):
    status = {which: [{"image": digest("f"), "imageID": image_id, "ready": True}]}
    cluster.add("pods", "x", spec=pod_spec("a.io/x:v1"), status=status)
    by = "prod/default/Pod x"
    assert uses(source()) == [("a.io/x:v1", by), (expected, by), (digest("f"), by)]


def test_reads_the_digest_of_a_mounted_image_volume(cluster, source):
    mount = {"name": "v", "mountPath": "/v", "volumeStatus": {"image": {"imageRef": f"a.io/v@{digest('a')}"}}}
    cluster.add("pods", "x", spec=pod_spec(), status={"containerStatuses": [{"volumeMounts": [mount, {"name": "w"}]}]})
    assert uses(source()) == [(digest("a"), "prod/default/Pod x")]


def test_names_each_image_once_by_its_owner(cluster, source):
    for number in range(3):
        cluster.add("pods", f"api-{number}", "shop", spec=pod_spec("a.io/api:v1", "a.io/proxy:v1"))
    cluster.add("replicasets", "api-1", "shop", spec=template("a.io/api:v1"))
    cluster.add("deployments", "api", "shop", spec=template("a.io/api:v1"))
    assert uses(source()) == [
        ("a.io/api:v1", "prod/shop/Deployment api and 4 more"),
        ("a.io/proxy:v1", "prod/shop/Pod api-0 and 2 more"),
    ]


def test_the_time_of_a_reading_is_its_start(cluster, source):
    before = datetime.now(UTC)
    cluster.faults["pods"] = ["503"]
    read_ = read(source(), QUICK, ENVIRON)
    assert before <= read_.as_of <= datetime.now(UTC) - timedelta(seconds=QUICK.first_wait)


def test_ignores_an_image_that_no_node_can_pull(cluster, source):
    cluster.add("deployments", "broken", spec=template("Not A Reference", "a.io/x:v1"))
    assert uses(source()) == [("a.io/x:v1", "prod/default/Deployment broken")]


def test_reads_a_sha512_digest_and_its_tag(cluster, source):
    digest512 = "sha512:" + "5" * 128
    cluster.add("pods", "x", spec=pod_spec(f"a.io/x:v1@{digest512}"))
    uses = read(source(), QUICK, ENVIRON).uses
    assert [(use.digest, use.image) for use in uses] == [(digest512, "a.io/x:v1")]


def test_reports_a_digest_of_an_unknown_algorithm(cluster, source):
    cluster.add("pods", "x", spec=pod_spec("a.io/x:v1@blake3:abc", "a.io/y:v1"))
    reading = read(source(), QUICK, ENVIRON)
    assert ([use.image for use in reading.uses], reading.unknown_digests) == (["a.io/y:v1"], ("a.io/x@blake3:abc",))


@pytest.mark.parametrize("page", [1, 7, 500])
def test_reads_all_pages_of_a_list(cluster, source, page):
    cluster.page = page
    for number in range(50):
        cluster.add("pods", f"p{number:02}", spec=pod_spec(f"a.io/x:v{number:02}"), filler="x" * 2000)
    assert [image for image, _ in uses(source())] == [f"a.io/x:v{number:02}" for number in range(50)]
    asked = [path for path in cluster.requests if path.startswith("/api/v1/pods")]
    assert len(asked) == -(-50 // page)
    assert asked[0] == "/api/v1/pods?limit=500"


def test_restarts_a_list_whose_next_page_has_expired(cluster, source):
    cluster.page = 2
    for number in range(6):
        cluster.add("pods", f"p{number}", spec=pod_spec(f"a.io/x:v{number}"))
    cluster.faults["pods"] = ["", "", "410", "", "410"]
    assert len(uses(source())) == 6
    asked = [path for path in cluster.requests if path.startswith("/api/v1/pods")]
    assert [path == "/api/v1/pods?limit=500" for path in asked] == [
        *(True, False, False), *(True, False), *(True, False, False),
    ]  # fmt: skip


def test_gives_up_on_a_list_that_always_expires(cluster, source):
    cluster.page = 1
    cluster.add("pods", "a", spec=pod_spec("a.io/x:v1"))
    cluster.add("pods", "b", spec=pod_spec("a.io/x:v2"))
    cluster.faults["pods"] = ["", "410"] * 10
    what = "context prod: the list of pods in all namespaces expired before its end, 4 times"
    assert failure(source()) == f"{what}; check how quickly the API server answers"


def test_reads_only_the_configured_namespaces(cluster, source):
    for namespace in ("shop", "ml", "other"):
        cluster.add("pods", "x", namespace, spec=pod_spec(f"a.io/{namespace}:v1"))
        cluster.add("jobs", "y", namespace, spec=template(f"a.io/{namespace}-job:v1"))
    cluster.forbidden = {(resource, "*") for resources in GROUPS.values() for resource in resources}
    settings = source(namespaces=("ml", "shop"))
    assert [image for image, _ in uses(settings)] == [
        "a.io/ml-job:v1", "a.io/ml:v1", "a.io/shop-job:v1", "a.io/shop:v1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "right"),
    [
        ("pods", "pods"),
        ("deployments", "deployments.apps"),
        ("cronjobs", "cronjobs.batch"),
        ("controllerrevisions", "controllerrevisions.apps"),
    ],
)
def test_fails_if_one_namespace_is_forbidden(cluster, source, resource, right):
    cluster.add("pods", "x", "shop", spec=pod_spec("a.io/x:v1"))
    cluster.namespaces.add("ml")
    cluster.forbidden = {(resource, "ml")}
    what = f"context prod: list of {resource} in namespace ml: forbidden (403)"
    assert failure(source(namespaces=("shop", "ml"))) == f"{what}; grant the verb list on {right}; {RIGHTS}"


def test_fails_on_a_namespace_that_does_not_exist(cluster, source):
    what = "context prod: namespace shpo: not found (404)"
    remedy = "check that it exists, and that this is the API server's address"
    assert failure(source(namespaces=("default", "shpo"))) == f"{what}; {remedy}"
    cluster.forbidden = {("namespaces", "any")}
    what = "context prod: namespace default: forbidden (403)"
    assert failure(source(namespaces=("default",))) == f"{what}; grant the verb get on namespaces; {RIGHTS}"


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        pytest.param(["503"] * 9, "the API server answers 503; check the API server", id="failing"),
        pytest.param(["429"] * 9, "the API server answers 429; check the API server", id="throttled"),
        pytest.param(["500"] * 9, "the API server answers 500; check the API server", id="broken"),
        pytest.param(
            ["410"], "the API server answers 410; check that this is the API server's address", id="gone at the start"
        ),
        pytest.param(
            ["redirect"], "the API server answers 302; check that this is the API server's address", id="elsewhere"
        ),
    ],
)
def test_fails_on_a_status_without_a_list(cluster, source, faults, message):
    cluster.faults["deployments"] = faults
    assert failure(source()) == f"context prod: list of deployments in all namespaces: {message}"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        pytest.param(
            "<html>Sign in</html>", "JSON is malformed: invalid character (byte 0)", id="a page to sign in at"
        ),
        pytest.param("", "Input data was truncated", id="nothing"),
        pytest.param("{}", "Object missing required field `kind`", id="an empty object"),
        pytest.param('{"kind": "PodList", "metadata": {}}', "Object missing required field `items`", id="no items"),
        pytest.param(
            '{"kind": "List", "metadata": {}, "items": []}', "expected a PodList, got a List", id="another list"
        ),
        pytest.param(
            '{"kind": "Status", "metadata": {}, "items": []}', "expected a PodList, got a Status", id="a status"
        ),
        pytest.param(
            '{"kind": "PodList", "metadata": {}, "items": [{}]}',
            "Object missing required field `metadata` - at `$.items[0]`",
            id="nameless",
        ),
        pytest.param('{"kind": "PodList", "metadata": {}, "items": [', "Input data was truncated", id="cut"),
    ],
)
def test_refuses_a_response_that_is_not_a_list_of_pods(cluster, source, body, what):
    cluster.faults["pods"] = [body or " "]
    remedy = "check that this is the API server's address"
    assert failure(source()) == (f"context prod: the list of pods in all namespaces cannot be parsed: {what}; {remedy}")


def test_refuses_a_list_that_repeats_a_page(cluster, source):
    cluster.faults["pods"] = ['{"kind": "PodList", "metadata": {"continue": "MQ=="}, "items": []}'] * 9
    assert "repeats a page" in failure(source())


def test_retries_temporary_faults(cluster, source):
    cluster.add("pods", "x", spec=pod_spec("a.io/x:v1"))
    cluster.faults["pods"] = ["503", "cut", "429"]
    cluster.faults["jobs"] = ["hang"]
    assert len(uses(source(), Timeouts(total=30.0, silence=0.3, first_wait=0.01))) == 1


@pytest.mark.parametrize(
    ("fault", "limits", "message"),
    [
        pytest.param("cut", QUICK, "IncompleteRead", id="cut"),
        pytest.param("hang", HASTY, "Read timed out", id="silent"),
        pytest.param("drip", SHORT, "the time limit was reached", id="a drop now and then"),
    ],
)
def test_gives_up_on_responses_that_do_not_come(cluster, source, fault, limits, message):
    cluster.faults["pods"] = [fault] * 9
    text = failure(source(), limits)
    assert text.startswith("context prod: list of pods in all namespaces: ")
    assert message in text


def test_fails_on_an_invalid_image_id(cluster, source):
    cluster.add("pods", "x", "ml", spec=pod_spec("a.io/x:v1"), status={"containerStatuses": [{"imageID": "0xcafe!"}]})
    what = "context prod: Pod ml/x cannot be parsed: its status names an image as '0xcafe!'"
    assert failure(source()) == f"{what}; report it with this line"


@pytest.mark.parametrize(
    ("resource", "rest", "what"),
    [
        ("pods", {}, "it has no spec"),
        ("deployments", {"spec": None}, "it has no spec"),
    ],
)
def test_refuses_an_object_without_required_fields(cluster, source, resource, rest, what):
    cluster.add(resource, "x", **rest)
    assert f"default/x cannot be parsed: {what}" in failure(source())


def test_fails_on_a_resource_that_the_server_does_not_have(cluster, source):
    cluster.missing = {"cronjobs"}
    assert failure(source()).startswith("context prod: list of cronjobs in all namespaces: not found (404)")


def test_reports_refused_credentials(cluster, source, tmp_path):
    other = kubeconfig(tmp_path / "other", {"prod": cluster}, token="expired")
    text = failure(source(kubeconfig=other))
    assert text == (
        "context prod: list of deployments in all namespaces: the API server does not accept the credentials (401); "
        "renew them"
    )


def test_fails_if_one_of_several_contexts_fails(cluster, source, tmp_path):
    with ApiServer() as second:
        both = kubeconfig(tmp_path / "both", {"blue": cluster, "green": second})
        cluster.add("pods", "x", spec=pod_spec("a.io/x:v1"))
        second.add("pods", "y", spec=pod_spec("a.io/x:v1", "a.io/y:v1"))
        settings = source(kubeconfig=both, contexts=("blue", "green"))
        assert uses(settings) == [
            ("a.io/x:v1", "blue/default/Pod x and 1 more"),
            ("a.io/y:v1", "green/default/Pod y"),
        ]
        second.faults["pods"] = ["503"] * 9
        assert failure(settings).startswith("context green: list of pods in all namespaces: ")
    assert failure(settings).startswith("context green: list of deployments in all namespaces: ")


def test_reads_the_current_context_by_default(cluster, source):
    cluster.add("pods", "x", spec=pod_spec("a.io/x:v1"))
    assert uses(source(contexts=())) == [("a.io/x:v1", "cluster/default/Pod x")]


def test_reads_the_kubeconfig_of_the_environment(cluster, source, tmp_path):
    cluster.add("pods", "x", spec=pod_spec("a.io/x:v1"))
    settings = source(kubeconfig=None, contexts=())
    environ = {"KUBECONFIG": str(tmp_path / "kubeconfig")}
    assert len(read(settings, QUICK, environ).uses) == 1
    # A pod reads its own cluster, unless a file or a context is configured.
    inside = environ | {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}
    with pytest.raises(EvidenceError, match="Service token file does not exist"):
        read(settings, QUICK, inside)
    assert len(read(source(kubeconfig=None), QUICK, inside).uses) == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(None, "Invalid kube-config file. No configuration found.", id="no file"),
        pytest.param("", "Invalid kube-config.", id="an empty file"),
        pytest.param("{", "ParserError", id="no YAML"),
        pytest.param("[]", "", id="a list"),
        pytest.param("secret-word", "", id="a word"),
        pytest.param("{contexts: [], users: [{name: gc, user: {token: secret-word}}]}", "", id="no such context"),
    ],
)
def test_refuses_an_unusable_kubeconfig(source, tmp_path, content, what):
    path = tmp_path / "broken"
    if content is not None:
        path.write_text(content)
    text = failure(source(kubeconfig=path))
    assert text.startswith(f"context prod: no usable kubeconfig: {what}")
    assert "secret-word" not in text


def test_a_token_is_not_sent_without_tls_to_another_machine(source, tmp_path):
    path = tmp_path / "plain"
    path.write_text((tmp_path / "kubeconfig").read_text().replace("127.0.0.1", "10.0.0.1"))
    assert "refusing to talk to 10.0.0.1" in failure(source(kubeconfig=path))


def test_gives_up_on_a_kubeconfig_command_that_never_ends(cluster, source, tmp_path):
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sleep",
        "args": ["3"],
        "interactiveMode": "Never",
    }
    path = kubeconfig(tmp_path / "command", {"prod": cluster}, exec=command)
    what = "context prod: was not read within 0.2 s"
    remedy = "check how quickly its API server answers, and any command of the kubeconfig"
    assert failure(source(kubeconfig=path), Timeouts(total=0.2)) == f"{what}; {remedy}"


def test_a_command_of_the_kubeconfig_signs_in(cluster, source, tmp_path):
    cluster.add("pods", "x", spec=pod_spec("a.io/x:v1"))
    answer = f'{{"apiVersion": "{EXEC}", "kind": "ExecCredential", "status": {{"token": "{TOKEN}"}}}}'
    command = {"apiVersion": EXEC, "command": "echo", "args": [answer], "interactiveMode": "Never"}
    path = kubeconfig(tmp_path / "command", {"prod": cluster}, exec=command)
    assert len(uses(source(kubeconfig=path))) == 1


def test_never_writes_to_the_kubeconfig(cluster, source, tmp_path):
    cluster.add("pods", "x", spec=pod_spec("a.io/x:v1"))
    fresh = tmp_path / "fresh.json"
    fresh.write_text(f'{{"credential": {{"access_token": "{TOKEN}", "token_expiry": "2999-01-01T00:00:00Z"}}}}')
    provider = {"name": "gcp", "config": {"cmd-path": "cat", "cmd-args": str(fresh)}}
    path = kubeconfig(tmp_path / "gcp", {"prod": cluster}, **{"auth-provider": provider})
    before = path.read_bytes()
    assert len(uses(source(kubeconfig=path))) == 1
    assert path.read_bytes() == before


def test_inside_a_cluster_the_pod_signs_in_by_its_service_account(source, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    with ApiServer(certificate(tmp_path)) as server:
        server.add("pods", "x", spec=pod_spec("a.io/x:v1"))
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        settings = source(kubeconfig=None, contexts=())
        assert len(read(settings, QUICK, environ, service_account=tmp_path).uses) == 1
        # A server with another certificate is not trusted.
        (tmp_path / "other").mkdir()
        certificate(tmp_path / "other")
        (tmp_path / "other" / "ca.crt").rename(tmp_path / "ca.crt")
        with pytest.raises(EvidenceError, match="certificate verify failed"):
            read(settings, HASTY, environ, service_account=tmp_path)


def test_reports_a_use_as_text(cluster, source):
    cluster.add("pods", "x", spec=pod_spec(f"a.io/x:v1@{digest('a')}"))
    assert read(source(), QUICK, ENVIRON).uses == (Use(digest("a"), "a.io/x:v1", "prod/default/Pod x"),)
