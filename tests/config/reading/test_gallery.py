"""Every mistake of the configuration has its own file in tests/data/mistakes, and its exact message here."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policies.mistakes import Mistake
from worker.config.settings import ConfigError, load

FOLDER = Path(__file__).parents[2] / "data" / "mistakes"
ENVIRON = {"YC_TOKEN": "secret"}

TOP_KEYS = "redis, store, web, timing, retention, notify, defaults, registries, policies"
REGISTRY_KEYS = (
    "kind, id, url, repositories, token_hosts, addresses, push_time, transitional, credentials, endpoints, ca_file, "
    "proxy, insecure_http, schedule, timezone, catch_up, mode, settle, trust_times_after, ignore_unreadable, in_use, "
    "policy, keep_per_repository, limits, rate, plan_max_age, deadline, after_run"
)
SELECT_CONDITIONS = (
    "tags, except_tags, tagged, untagged, digests, older_than, newer_than, untagged_for, larger_than, smaller_than, "
    "per, all, any_tag, beyond_newest"
)
CRON = 'write minute, hour, day of month, month, day of week; for example "0 3 * * *"'
YANDEX = "yandex-container-registry or yandex-cloud-registry"
KINDS = "yandex-container-registry, yandex-cloud-registry or oci"
YANDEX_WAYS_IN = "iam_token, service_account_key, metadata, workload_identity"
OCI_WAYS_IN = "username with password, anonymous, helper, docker_config, command"
WAYS_IN = f"{YANDEX_WAYS_IN}, {OCI_WAYS_IN}"
URL = "write, for example, https://registry.example.com"
IDS = "`yc container registry list` or `yc cloud-registry registry list` shows the ids"
EXAMPLE = "start from the example in docs/configuration.md"
ADDRESS = "write, for example, json://127.0.0.1:8080/hook, or store it in {file: PATH} or {env: NAME}"
OUTCOMES = "write always, or a list of succeeded, partial, blocked, failed, aborted, missed"
SECRET = "every secret must exist and be readable at the start"

MESSAGES = {
    "empty": f"the file is empty; {EXAMPLE}",
    "only-comments": f"the file is empty; {EXAMPLE}",
    "a-list": f"expected a mapping, got a list; {EXAMPLE}",
    "not-yaml": (
        "line 3, column 9: invalid YAML: while parsing a flow mapping did not find expected ',' or "
        "'}'; check this line and the line before"
    ),
    "tab": "line 2: a tab indents this line; indent with spaces",
    "two-documents": "line 6: a second document begins here; keep one document in the file",
    "alias": (
        "policies.nightly: YAML anchors and aliases are not supported, got &rules;"
        " put the keys that registries share into `defaults`"
    ),
    "merge-key": f"registries.production.<<: unknown key '<<'; known here: {REGISTRY_KEYS}",
    "yaml-tag": ("registries.production.mode: YAML tags are not supported, got tag:yaml.org,2002:str; remove the tag"),
    "deeply-nested": "line 1: is nested more than 32 levels deep; docs/configuration.md shows the structure",
    "number-as-key": "policies: expected text as a key, got '2026'; put it in quotes",
    "list-as-key": "policies: expected text as a key, got a list or a mapping; write plain text before the colon",
    "repeated-registry-key": "registries.production.mode: is written twice, on lines 7 and 8; keep one",
    "repeated-policy": "policies.nightly: is written twice, on lines 2 and 5; keep one",
    "unknown-key": f"registry: unknown key 'registry'; did you mean registries? known here: {TOP_KEYS}",
    "unknown-registry-key": (
        f"registries.production.shedule: unknown key 'shedule'; did you mean schedule? known here: {REGISTRY_KEYS}"
    ),
    "unknown-limit": (
        "registries.production.limits.max_image: unknown key 'max_image';"
        " did you mean max_images? known here: max_images, max_share, max_bytes"
    ),
    "unknown-timing": "timing.retry: unknown key 'retry'; known here: reconcile, lease",
    "missing-id": (
        "registries.production.id: is missing; write the registry's id, which `yc container registry list` or "
        "`yc cloud-registry registry list` shows"
    ),
    "missing-policy-key": "registries.production.policy: is missing; write the name of one of the policies",
    "empty-value": "registries.production.limits.max_images: has no value; write one, or leave the key out",
    "empty-condition": "policies.nightly[1].delete.older_than: has no value; write one, or leave the key out",
    "empty-item": "policies.nightly[1].delete.tags[1]: has no value; write one, or leave the item out",
    "empty-schedule": "registries.production.schedule: has no value; write one, or leave the key out",
    "empty-deadline": "registries.production.deadline: has no value; write one, or leave the key out",
    "empty-list": (
        "policies.nightly[1].delete.digests: expected a list of digests, got an empty list;"
        ' write, for example, ["sha256:9f86…"]'
    ),
    "registry-is-text": (
        "registries.production: expected a mapping, got 'crpvab5oob146rh73ilt';"
        " write kind, id or url, credentials and policy"
    ),
    "registry-name": (
        "registries.prod/eu: expected a name of letters, digits, '.', '_' and '-', at most 63, got "
        "'prod/eu'; choose another name"
    ),
    "policy-name": (
        "policies.night and day: expected a name of letters, digits, '.', '_' and '-', at most 63, got "
        "'night and day'; choose another name"
    ),
    "settle-without-unit": "registries.production.settle: expected a duration, got 24; write 24d, 24h, 24m or 24s",
    "times-by-date": (
        "registries.production.trust_times_after: expected an instant, got the date '2026-11-20';"
        ' write the time too: "2026-11-20T00:00:00Z"'
    ),
    "times-without-zone": (
        "registries.production.trust_times_after: expected an instant with its time zone, got '2026-11-20 03:00:00';"
        ' write "2026-11-20 03:00:00Z" if it is UTC'
    ),
    "times-in-words": (
        "registries.production.trust_times_after: expected an instant, got 'last friday';"
        ' write, for example, "2026-11-20T03:00:00Z"'
    ),
    "in-use-is-a-mapping": "registries.production.in_use: expected a list, got a mapping; write - before each item",
    "source-is-text": (
        "registries.production.in_use[0]: expected a mapping, got 'in-use.json';"
        " write name and kind, and what the kind needs"
    ),
    "source-without-kind": "registries.production.in_use[0].kind: is missing; write file, http or kubernetes",
    "source-kind": (
        "registries.production.in_use[0].kind: expected file, http or kubernetes, got 'kubernets';"
        " did you mean kubernetes?"
    ),
    "source-without-name": (
        "registries.production.in_use[0].name: is missing; write a name of its own, such as name: production-cluster"
    ),
    "source-without-path": (
        "registries.production.in_use[0].path: is missing; write path: FILE, relative to this file"
    ),
    "source-of-another-kind": (
        "registries.production.in_use[0].path: unknown key 'path';"
        " known here: name, kind, max_age, allow_empty, allow_foreign, url, token"
    ),
    "source-name": (
        "registries.production.in_use[0].name: expected a name of letters, digits, '.', '_' and '-', at most 63, got "
        "'our cluster'; choose another name"
    ),
    "source-twice": (
        "registries.production.in_use[1].name: another source already has the name 'cluster'; choose another name"
    ),
    "source-max-age": (
        "registries.production.in_use[0].max_age: expected a duration of at least 1s, got 0s; write 1s or more"
    ),
    "source-plain-http": (
        "registries.production.in_use[0].url: plain http is allowed to loopback addresses only, got "
        "'http://example.com/in-use'; write https://example.com/in-use"
    ),
    "source-with-password": (
        "registries.production.in_use[0].url: expected a URL without user and password;"
        " write only the host, and the token in `token`"
    ),
    "source-token-in-the-file": (
        "registries.production.in_use[0].token: expected {file: PATH} or {env: NAME}; store the secret in"
        " a file or a variable"
    ),
    "source-without-namespaces": (
        "registries.production.in_use[0].namespaces: expected a list of names, got an empty list;"
        " write, for example, [production], or leave the key out"
    ),
    "source-context-is-a-number": (
        "registries.production.in_use[0].contexts: expected names, got 1; put each in quotes"
    ),
    "default-source": "defaults.in_use[0].max_age: expected a duration, got 'soon'; write, for example, 10d",
    "identity-without-token": (
        "registries.production.credentials.workload_identity.token: is missing;"
        " write token: {file: PATH}, the projected token of the pod"
    ),
    "identity-account": (
        "registries.production.credentials.workload_identity.service_account: expected a service account's id of "
        "letters and digits, got 'registry-gc'; `yc iam service-account list` shows the ids"
    ),
    "missing-pod-token": (
        "registries.production.credentials.workload_identity.token: "
        f"file {FOLDER}/no-such-token does not exist; {SECRET}"
    ),
    "notify-of-a-registry": f"registries.production.notify: unknown key 'notify'; known here: {REGISTRY_KEYS}",
    "notify-without-url": ("notify[0].url: is missing; write an address of apprise, or {file: PATH} or {env: NAME}"),
    "notify-not-an-address": f"notify[0].url: expected an address of apprise, got something else; {ADDRESS}",
    "notify-with-password": ("notify[0].url: contains a password; store the whole URL in {file: PATH} or {env: NAME}"),
    "notify-outcome": "notify[0].on: expected an outcome of a run, got 'block'; did you mean blocked?",
    "notify-no-outcome": f"notify[0].on: expected always or a list of outcomes, got an empty list; {OUTCOMES}",
    "notify-sometimes": f"notify[0].on: expected always or a list of outcomes, got 'sometimes'; {OUTCOMES}",
    "notify-no-such-registry": ("notify[0].registries: there is no registry 'producton'; did you mean production?"),
    "key-of-another-kind": (
        "registries.production.repositories: is a key of kind oci, but this registry is of kind"
        " yandex-container-registry;"
        " remove it"
    ),
    "id-of-an-oci-registry": (
        f"registries.production.id: is a key of kind {YANDEX}, but this registry is of kind oci; write url instead"
    ),
    "url-of-a-yandex-registry": (
        "registries.production.url: is a key of kind oci, but this registry is of kind"
        " yandex-cloud-registry; write id instead"
    ),
    "transitional-of-another-kind": (
        "registries.production.transitional: is a key of kind yandex-cloud-registry, but this registry is of kind "
        "yandex-container-registry; remove it"
    ),
    "transitional-false": (
        "registries.production.transitional: expected true, got false; remove the key to turn it off"
    ),
    "default-of-another-kind": (
        f"defaults.endpoints: is a key of kind {YANDEX}, but registries.production is of kind oci;"
        " move it to the registries of that kind"
    ),
    "missing-url": (
        "registries.production.url: is missing; write the registry's address, such as https://registry.example.com"
    ),
    "credentials-of-another-kind": (
        f"registries.production.credentials.iam_token: is a sign-in method of kind {YANDEX}, but this"
        " registry is of kind oci;"
        f" write one of {OCI_WAYS_IN}"
    ),
    "anonymous-at-a-yandex-registry": (
        "registries.production.credentials.anonymous: is a sign-in method of kind oci, but this registry is of kind "
        f"yandex-cloud-registry; write one of {YANDEX_WAYS_IN}"
    ),
    "two-ways-into-oci": (
        "registries.production.credentials: expected one sign-in method, got username, password and anonymous;"
        f" keep one of {WAYS_IN}"
    ),
    "username-without-password": (
        "registries.production.credentials: expected username and password, got only username; add password"
    ),
    "password-in-the-file": (
        "registries.production.credentials.password: expected {file: PATH} or {env: NAME};"
        " store the secret in a file or a variable"
    ),
    "password-not-there": (
        f"registries.production.credentials.password: environment variable NO_SUCH_PASSWORD is not set; {SECRET}"
    ),
    "url-with-query": (
        "registries.production.url: expected a URL without a query, got 'https://registry.example.com/team?page=1';"
        " write https://registry.example.com/team"
    ),
    "url-plain-http": (
        "registries.production.url: plain http is allowed to loopback addresses only, got"
        " 'http://registry.example.com';"
        " write https://registry.example.com, or add insecure_http: true on a private network"
    ),
    "url-without-scheme": f"registries.production.url: expected a URL, got 'registry.example.com'; {URL}",
    "repositories-empty": (
        "registries.production.repositories: expected a list of repositories, got an empty list;"
        " write, for example, [shop/api, ml/**], or leave the key out"
    ),
    "repositories-with-a-port": (
        "registries.production.repositories: expected a pattern that a repository's path can match, got"
        " 'registry.example.com:443/shop/**': a path cannot contain ':'; write the path alone, without host, tag"
        " or digest"
    ),
    "repositories-with-a-host": (
        "registries.production.repositories[1]: 'registry.example.com/shop/**' starts with the host of"
        " registries.production, which is not part of a path; write shop/**"
    ),
    "repositories-from-the-root": (
        "registries.production.repositories: expected a pattern that a repository's path can match, got '/shop/api':"
        " a path has no / at its beginning or end, and no //; write shop/api"
    ),
    "rule-with-an-id": (
        "policies.nightly[1].repositories[0]: 'crpvab5oob146rh73ilt/shop/**' starts with the id of"
        " registries.production, which is not part of a path; write shop/**"
    ),
    "rule-with-a-host": (
        "policies.nightly[0].except_repositories[0]: 'cr.yandex/crpvab5oob146rh73ilt/shop' starts with the host of"
        " registries.production, which is not part of a path; write shop"
    ),
    "pattern-of-no-tag": (
        "policies.nightly[0].keep.tags[0]: expected a pattern that a tag can match, got '^v[0-9]+$': a tag cannot"
        " contain '^'; write re:v[0-9]+"
    ),
    "repositories-not-closed": (
        "registries.production.repositories: expected a pattern, got 'shop/[a-', whose [ is never closed;"
        " write \\[ for that character"
    ),
    "token-host-is-a-url": (
        "registries.production.token_hosts: expected a host, got 'https://auth.example.com/token';"
        " write only the host, such as auth.example.com, or the host with its port"
    ),
    "token-hosts-is-text": (
        "registries.production.token_hosts: expected a list of hosts, got 'auth.example.com';"
        " write, for example, [auth.example.com], or leave the key out"
    ),
    "ignore-unreadable-by-tag": (
        "registries.production.ignore_unreadable: expected a digest, got 'shop/api:v1';"
        " write the whole digest, as the plan shows it: sha256:…"
    ),
    "push-time": (
        "registries.production.push_time: expected first_seen or image, got 'created'; write first_seen or image"
    ),
    "two-names-of-a-url": (
        "registries.copy: is the same registry as registries.production: the same kind and url; keep one of the two"
    ),
    "untagged-of-oci": (
        "policies.nightly[1].delete.untagged: is always unknown in registries.production: kind oci does not list "
        "untagged images; give that registry a policy without it"
    ),
    "untagged-kept-in-oci": (
        "policies.nightly[1].keep.untagged_for: is always unknown in registries.production: kind oci does not list "
        "untagged images; give that registry a policy without it"
    ),
    "later-condition": (
        f"policies.nightly[1].delete.not_pulled_for: is not supported yet; known here: {SELECT_CONDITIONS}"
    ),
    "kind": f"registries.production.kind: expected {KINDS}, got 'yandex'; write {KINDS}",
    "id-is-a-number": "registries.production.id: expected a registry's id, got 12345; put it in quotes",
    "id-with-a-slash": (
        "registries.production.id: expected a registry's id of letters and digits, got "
        f"'cr.yandex/crpvab5oob146rh73ilt'; {IDS}"
    ),
    "mode": "registries.production.mode: expected dry-run or delete, got 'Delete'; did you mean delete?",
    "duration-without-unit": "registries.production.catch_up: expected a duration, got 6; write 6d, 6h, 6m or 6s",
    "duration-in-words": "registries.production.deadline: expected a duration, got 'five hours'; "
    "write, for example, 10d",
    "duration-negative": (
        "registries.production.deadline: expected a duration, got '-5h'; a duration is not negative: write 5h"
    ),
    "duration-zero": (
        "registries.production.plan_max_age: expected a duration of at least 1s, got 0s; write 1s or more"
    ),
    "duration-with-a-semicolon": (
        "registries.production.plan_max_age: expected a duration, got 'a; b'; write, for example, 10d"
    ),
    "share-as-number": "registries.production.limits.max_share: expected a share, got 0.3; write, for example, 30%",
    "share-over-all": (
        "registries.production.limits.max_share: expected a share, got '130%'; write a share between 0% and 100%"
    ),
    "size-without-unit": (
        "registries.production.limits.max_bytes: expected a size, got 1000000; write, for example, 1000000B"
    ),
    "size-in-words": (
        "registries.production.limits.max_bytes: expected a size, got 'two terabytes';"
        " write, for example, 5GiB or 500MB"
    ),
    "count-in-quotes": (
        "registries.production.limits.max_images: expected a whole number, got '5000';"
        " write, for example, 10, without quotes"
    ),
    "count-negative": "registries.production.keep_per_repository: expected at least 0, got -1; write 0 or more",
    "count-octal": (
        "registries.production.keep_per_repository: expected a whole number, got '010';"
        " write, for example, 10, without quotes"
    ),
    "rate-zero": (
        "registries.production.rate.requests_per_second: expected a number above 0, got 0; write, for example, 20"
    ),
    "rate-infinite": (
        "registries.production.rate.requests_per_second: expected a number, got '.inf'; write, for example, 20"
    ),
    "concurrency": "registries.production.rate.concurrency: expected at most 128, got 1000; write 128 or less",
    "schedule-six-fields": (
        f"registries.production.schedule: expected a cron line of five fields, got 6 in '0 0 3 * * *'; {CRON}"
    ),
    "schedule-word": f"registries.production.schedule: expected a cron line of five fields, got 1 in '@daily'; {CRON}",
    "schedule-last-day": (
        "registries.production.schedule: L is not supported in a cron line, got '0 3 L * *'; write days"
        " as numbers or names"
    ),
    "schedule-third-friday": (
        "registries.production.schedule: # is not supported in a cron line, got '0 3 * * 5#3'; write days"
        " as numbers or names"
    ),
    "schedule-minute": (
        f"registries.production.schedule: expected a cron line, got '61 3 * * *': its minute is invalid; {CRON}"
    ),
    "schedule-never": (
        f"registries.production.schedule: expected a cron line, got '0 3 30 2 *': its day of month is invalid; {CRON}"
    ),
    "timezone": ("registries.production.timezone: there is no time zone 'Europe/Moskow'; did you mean Europe/Moscow?"),
    "timezone-is-a-path": (
        "registries.production.timezone: there is no time zone '../etc/passwd'; write, for example, Europe/Moscow"
    ),
    "no-such-policy": "registries.production.policy: there is no policy 'nigthly'; did you mean nightly?",
    "default-of-a-registry": "defaults.timezone: there is no time zone 'Moscow'; write, for example, Europe/Moscow",
    "two-names": (
        "registries.copy: is the same registry as registries.production: the same kind, endpoint and id;"
        " keep one of the two"
    ),
    "missing-secret-file": (
        f"registries.production.credentials.service_account_key: file {FOLDER}/no-such-key.json does not "
        f"exist; {SECRET}"
    ),
    "missing-secret-variable": (
        f"registries.production.credentials.iam_token: environment variable NO_SUCH_TOKEN is not set; {SECRET}"
    ),
    "secret-in-the-file": (
        "registries.production.credentials.iam_token: expected {file: PATH} or {env: NAME};"
        " store the secret in a file or a variable"
    ),
    "secret-twice": "registries.production.credentials.iam_token: expected one of file and env, got both; keep one",
    "two-ways-to-sign-in": (
        "registries.production.credentials: expected one sign-in method, got iam_token and metadata;"
        f" keep one of {WAYS_IN}"
    ),
    "no-way-to-sign-in": (
        f"registries.production.credentials: expected one sign-in method, got none; write one of {WAYS_IN}"
    ),
    "metadata-false": (
        "registries.production.credentials.metadata: expected true, got false; remove the key to turn it off"
    ),
    "plain-http": (
        "registries.production.endpoints.container_registry: plain http is allowed to loopback addresses only, "
        "got 'http://registry.example.com'; write https://registry.example.com, or add insecure_http: true on a"
        " private network"
    ),
    "endpoint-with-path": (
        "registries.production.endpoints.docker: expected a URL without a path, got"
        " 'https://cr.yandex/v2'; write https://cr.yandex"
    ),
    "endpoint-with-password": (
        "registries.production.endpoints.iam: expected a URL without user and password; write only the host"
    ),
    "endpoint-without-scheme": (
        "registries.production.endpoints.iam: expected a URL, got 'iam.example.com';"
        " write, for example, https://cr.yandex"
    ),
    "redis-with-password": "redis: contains a password; store the whole URL in {file: PATH} or {env: NAME}",
    "redis-scheme": (
        "redis: expected a Redis URL: its scheme is not redis, rediss or unix; write, for example,"
        " redis://127.0.0.1:6379/0"
    ),
    "store-in-memory": (
        "store: expected the path of a file after sqlite://;"
        " write sqlite:////absolute/path.db or postgresql+psycopg://user@host/database"
    ),
    "store-kind": (
        "store: expected a store URL: its scheme is not sqlite or postgresql+psycopg;"
        " write sqlite:////absolute/path.db or postgresql+psycopg://user@host/database"
    ),
    "store-with-password": "store: contains a password; store the whole URL in {file: PATH} or {env: NAME}",
    "listen-without-host": 'web.listen: expected an address, got 9811; write, for example, "127.0.0.1:9811"',
    "listen-port": "web.listen: expected an address, got '127.0.0.1:98110'; write, for example, \"127.0.0.1:9811\"",
    "after-run-twice": "registries.production.after_run: expected one of command and url, got both; keep one",
    "after-run-of-a-shell": (
        "registries.production.after_run.command: expected a list of a program and its arguments; write, for example, "
        "[/usr/local/bin/registry-password, production]; no shell interprets it"
    ),
    "after-run-plain-http": (
        "registries.production.after_run.url: plain http is allowed to loopback addresses only, got "
        "'http://collector.example.com/runs'; write https://collector.example.com/runs"
    ),
    "after-run-token": "registries.production.after_run: token can be used only with url, not with command; remove it",
    "retention": "retention.plans: expected at least 1, got 0; write 1 or more",
    "lease": "timing.lease: expected a duration of at least 1s, got 0s; write 1s or more",
    "policy-is-a-mapping": (
        "policies.nightly: expected a list of rules, got a mapping; write, for example, - {name: …, delete: {…}}"
    ),
    "rule-without-a-name": (
        "policies.nightly[1].name: expected a name, got nothing; write what the rule is for, in a few words"
    ),
    "rule-without-a-condition": (
        "policies.nightly[1].delete: expected at least one condition; write all: true if every image is meant"
    ),
    "rule-keeps-and-deletes": "policies.nightly[1]: expected either delete or keep, got both; write one rule for each",
    "repeated-rule-name": (
        "policies.nightly[1].name: 'releases' is already the name of policies.nightly[0]; give each rule its own name"
    ),
    "unknown-condition": (
        "policies.nightly[1].delete.older: unknown key 'older';"
        f" did you mean older_than? known here: {SELECT_CONDITIONS}"
    ),
    "age-in-words": (
        "policies.nightly[1].delete.older_than: expected a duration, got 'ten days'; write, for example, 10d"
    ),
    "size-of-a-condition": (
        "policies.nightly[1].delete.larger_than: expected a size, got '5G'; write, for example, 5GiB or 500MB"
    ),
    "pattern-re2-refuses": (
        "policies.nightly[1].delete.tags[0]: expected an RE2 expression, got 're:(?<=pr-)[0-9]+': invalid "
        "perl operator: (?<=; write it in RE2 syntax, without look-around and back-references"
    ),
    "pattern-not-closed": (
        "policies.nightly[1].delete.tags[0]: expected a pattern, got '[a-', whose [ is never closed;"
        " write \\[ for that character"
    ),
    "pattern-is-a-number": "policies.nightly[1].delete.tags[0]: expected a pattern, got 1.1; write it in quotes",
    "newest-in-a-select-rule": (
        "policies.nightly[1].delete.newest: is for keep rules; write it in a keep rule, or beyond_newest here"
    ),
    "digest": (
        "policies.nightly[1].delete.digests[0]: expected a digest, got 'sha256:abc'; write sha256: and 64 digits 0-9a-f"
    ),
    "binary": "line 1: contains the character '\\x00'; write plain text",
    "not-utf-8": "is not text in UTF-8: byte 12 is 0xe4; save it as UTF-8",
    "control-character": "line 2: contains the character '\\x1b'; write plain text",
}


@pytest.mark.parametrize(("file", "message"), MESSAGES.items(), ids=MESSAGES)
def test_reports_each_mistake_with_its_exact_line(file, message):
    path = FOLDER / f"{file}.yaml"
    with pytest.raises(ConfigError) as raised:
        load(path, environ=ENVIRON)
    assert raised.value.lines == (f"{path}: {message}",)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param('defaults: {plan_max_age: "a; b"}', "defaults.plan_max_age", id="of the file"),
        pytest.param(
            'policies: {p: [{name: x, delete: {older_than: "a; b"}}]}',
            "policies.p[0].delete.older_than",
            id="of a policy",
        ),
    ],
)
def test_keeps_a_semicolon_of_a_value_within_one_mistake(tmp_path, text, path):
    file = tmp_path / "registry-gc.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    assert raised.value.mistakes == (Mistake(path, "expected a duration, got 'a; b'", "write, for example, 10d"),)


def test_every_file_of_the_gallery_has_a_message():
    assert {path.stem for path in FOLDER.iterdir()} == set(MESSAGES)


def spent_by_children():
    """Seconds of processor time, independent of other processes on the machine."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def check(path, **environ):
    command = [sys.executable, "-m", "worker.cli", "check", "--config", str(path)]
    before = spent_by_children()
    done = subprocess.run(
        command, env={**os.environ, **ENVIRON, **environ}, capture_output=True, timeout=30, check=False
    )
    return done, spent_by_children() - before


@pytest.mark.parametrize(
    "file", ["binary", "not-utf-8", "alias", "deeply-nested", "no-such-policy", "pattern-re2-refuses", "list-as-key"]
)
def test_the_command_check_prints_the_same_line_on_standard_error(file):
    path = FOLDER / f"{file}.yaml"
    done, seconds = check(path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"{path}: {MESSAGES[file]}\n"
    assert seconds < 2


def test_refuses_a_file_of_two_mebibytes(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_text("policies:\n" + "  # a comment\n" * 160_000)
    done, seconds = check(path)
    remedy = "put the keys that registries share into `defaults`"
    assert (done.returncode, done.stderr.decode()) == (2, f"{path}: is larger than 1 MiB; {remedy}\n")
    assert seconds < 2


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[" * 500_000, id="a hundred thousand open lists"),
        pytest.param("- " * 500_000, id="nested lists of one line"),
        pytest.param("a: " * 300_000, id="mappings in one line"),
        pytest.param("policies: {p: [" + "{}," * 100_000 + "]}", id="a hundred thousand empty rules"),
        pytest.param("policies: " + "x" * 1_000_000, id="one long word"),
        pytest.param("x: 1\n" * 100_000, id="one key again and again"),
    ],
)
def test_refuses_hostile_files_within_two_seconds(tmp_path, content):
    path = tmp_path / "hostile.yaml"
    path.write_text(content)
    started = time.process_time()
    with pytest.raises(ConfigError):
        load(path, environ={})
    assert time.process_time() - started < 2


def test_reports_all_mistakes_at_once(tmp_path):
    path = tmp_path / "registry-gc.yaml"
    path.write_text(
        "web: {listen: 9811}\n"
        "defaults: {timezone: Moscow, policy: nigthly}\n"
        "registries:\n"
        "  one: {kind: yandex-container-registry, id: a1, credentials: {metadata: true}, mode: never, mode: x}\n"
        "  two: {kind: yandex-container-registry, id: a1, credentials: {metadata: true}, catch_up: soon}\n"
        "  three: nothing\n"
        "policies:\n"
        "  nightly: [{name: a, delete: {older_than: 1}}, {name: a, keep: {tags: []}}]\n"
    )
    done, _ = check(path)
    assert done.returncode == 2
    assert [line.removeprefix(f"{path}: ").split(": ")[0] for line in done.stderr.decode().splitlines()] == [
        "registries.one.mode",
        "web.listen",
        "policies.nightly[0].delete.older_than",
        "policies.nightly[1].name",
        "policies.nightly[1].keep.tags",
        "defaults.timezone",
        "registries.one.mode",
        "defaults.policy",
        "registries.two.catch_up",
        "registries.two",
        "registries.three",
    ]


@pytest.mark.parametrize(
    ("path", "environ", "line"),
    [
        pytest.param("no.yaml", {}, "no.yaml: the file does not exist", id="missing"),
        pytest.param(None, {}, "registry-gc.yaml: the file does not exist", id="missing in the working folder"),
        pytest.param(
            None, {"REGISTRY_GC_CONFIG": "x.yaml"}, "x.yaml: the file does not exist", id="named by the environment"
        ),
        pytest.param("/tmp", {}, "/tmp: cannot be read: Is a directory", id="a folder"),
    ],
)
def test_a_file_that_cannot_be_read(path, environ, line):
    with pytest.raises(ConfigError) as raised:
        load(Path(path) if path else None, environ=environ)
    remedy = "name a file" if "cannot" in line else "name one"
    assert raised.value.lines == (f"{line}; {remedy} with --config or REGISTRY_GC_CONFIG",)
