"""What Terraform would make fits what the code expects, and grants what docs/permissions.md says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from infra.deploy import ENVIRONMENT, ENVIRONMENTS, VERSION_VARIABLE, read_target
from local.root import ROOT
from shopstream import settings as settings_module
from shopstream.alerts import ALERT_PREFIX, DIGEST_PREFIX
from shopstream.settings import settings
from shopstream.stream.decide import STREAM_JOB
from shopstream.tables.folder import all_tables
from tests.infra.terraform import Check, requirements

pytestmark = pytest.mark.integration

PROJECT = "shopstream-offline"
GITHUB = "GitHub"
GOOGLES = {"iap": "Identity-Aware Proxy"}
"""Google's own accounts, in the words of docs/permissions.md."""
READER = "group:analysts@example.com"
TOPIC, SUBSCRIPTION = "events", "events-stream"

Plans = dict[str, dict[str, Any]]


def planned(plan: dict[str, Any], type_: str) -> dict[str, dict[str, Any]]:
    """The planned values of the resources of a type, by address."""
    resources = plan["planned_values"]["root_module"]["resources"]
    return {one["address"]: one["values"] for one in resources if one["type"] == type_}


def composer(plan: dict[str, Any]) -> dict[str, Any]:
    [environment] = planned(plan, "google_composer_environment").values()
    return environment


@pytest.fixture(params=ENVIRONMENTS)
def plan(plans: Plans, request: pytest.FixtureRequest) -> dict[str, Any]:
    return plans[request.param]


def test_there_is_a_plan_for_each_environment_and_no_other(plans: Plans) -> None:
    assert sorted(plans) == sorted(ENVIRONMENTS)


def test_each_environment_is_named_by_its_variable_file(plans: Plans) -> None:
    assert {size: plan["variables"]["environment"]["value"] for size, plan in plans.items()} == {
        size: size for size in plans
    }


def test_composer_sets_only_variables_that_settings_reads_and_never_airflows_own(
    plan: dict[str, Any],
) -> None:
    variables = composer(plan)["config"][0]["software_config"][0]["env_variables"]
    read = set(re.findall(r"SHOPSTREAM_[A-Z_]+", Path(settings_module.__file__).read_text()))
    assert variables.keys() <= read | {"PYTHONWARNINGS"}
    assert VERSION_VARIABLE in read - variables.keys(), "make deploy sets it"


def test_composer_and_the_dashboard_have_limits_of_bytes_of_one_variable(
    plan: dict[str, Any],
) -> None:
    name = "SHOPSTREAM_BYTES_LIMIT_TIMES"
    times = str(plan["variables"]["bytes_limit_times"]["value"])
    assert composer(plan)["config"][0]["software_config"][0]["env_variables"][name] == times
    [service] = planned(plan, "google_cloud_run_service").values()
    [container] = service["template"][0]["spec"][0]["containers"]
    assert {one["name"]: one.get("value") for one in container["env"]}[name] == times


@pytest.mark.usefixtures("bare_environment")
def test_settings_read_in_composer_name_what_terraform_makes(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in composer(plan)["config"][0]["software_config"][0]["env_variables"].items():
        monkeypatch.setenv(name, value)
    env = settings()
    assert env.project == PROJECT
    buckets = planned(plan, "google_storage_bucket")
    assert env.bucket == buckets["google_storage_bucket.data"]["name"]
    assert env.temp_bucket == buckets["google_storage_bucket.dataflow"]["name"]
    sizes = read_target(plan["variables"]["environment"]["value"], PROJECT)
    for role, workers in (("batch", env.batch_workers), ("stream", env.stream_workers)):
        assert workers.environment() == {
            "serviceAccountEmail": sizes.service_account(role),
            "subnetwork": sizes.subnetwork,
            "ipConfiguration": "WORKER_IP_PRIVATE",
            "machineType": sizes.sizes[f"{role}_machine_type"],
            "maxWorkers": sizes.sizes[f"{role}_max_workers"],
        }
    [instance] = planned(plan, "google_spanner_instance").values()
    assert (env.spanner_instance, env.region) == (
        instance["name"],
        instance["config"].removeprefix("regional-"),
    )
    [database] = planned(plan, "google_spanner_database").values()
    assert env.spanner_database == database["name"]
    assert (env.topic, env.subscription) == (TOPIC, SUBSCRIPTION)
    assert env.sql_dir == Path("/home/airflow/gcs/plugins/sql")
    assert env.dataflow_endpoint is env.monitoring_endpoint is None


def test_composer_installs_what_the_list_names_and_nothing_else(plan: dict[str, Any]) -> None:
    packages = composer(plan)["config"][0]["software_config"][0]["pypi_packages"] or {}
    assert sorted(f"{name}{version}" for name, version in packages.items()) == sorted(requirements())


def test_the_dashboard_is_reached_through_identity_aware_proxy_alone(plan: dict[str, Any]) -> None:
    [service] = planned(plan, "google_cloud_run_service").values()
    assert service["metadata"][0]["annotations"]["run.googleapis.com/iap-enabled"] == "true"
    [invoker] = planned(plan, "google_cloud_run_service_iam_member").values()
    assert (invoker["role"], "@gcp-sa-iap." in invoker["member"]) == ("roles/run.invoker", True)
    [container] = service["template"][0]["spec"][0]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"] if one.get("value")}
    read = set(re.findall(r"SHOPSTREAM_[A-Z_]+", Path(settings_module.__file__).read_text()))
    assert {one["name"] for one in container["env"]} <= read
    project, number, *rest = variables["SHOPSTREAM_DASHBOARD_IAP_AUDIENCE"].strip("/").split("/")
    assert (project, bool(number)) == ("projects", True)
    assert rest == ["locations", service["location"], "services", service["name"]]


@pytest.mark.usefixtures("bare_environment")
def test_the_dashboards_container_listens_where_cloud_run_asks(plan: dict[str, Any]) -> None:
    [service] = planned(plan, "google_cloud_run_service").values()
    [container] = service["template"][0]["spec"][0]["containers"]
    assert [port["container_port"] for port in container["ports"]] == [settings().dashboard_port]


def test_without_an_image_nothing_of_the_dashboard_is_made(check: Check, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "infra", tmp_path / "infra"))
    for size in set(ENVIRONMENTS) - {"small"}:
        (folder / f"{size}.tfvars").unlink()
    with (folder / "small.tfvars").open("a") as file:
        file.write('\ndashboard_image = ""\n')
    assert check("--folder", folder, "--plans", tmp_path).returncode == 0
    small = json.loads((tmp_path / "small.json").read_text())
    made = [one["address"] for one in small["planned_values"]["root_module"]["resources"]]
    assert len(made) > 50
    assert [address for address in made if re.search(r"\.\w*dashboard|iap|cloud_run", address)] == []


def test_composer_is_given_a_package_as_its_name_and_what_follows(check: Check, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "infra", tmp_path / "infra"))
    for size in set(ENVIRONMENTS) - {"small"}:
        (folder / f"{size}.tfvars").unlink()
    with (folder / "composer-requirements.txt").open("a") as file:
        file.write("pandas==2.2.0\n# a-comment==1.0\ngoogle-cloud-spanner[tracing]==3.5.0\n")
    assert check("--folder", folder, "--plans", tmp_path).returncode == 0
    small = json.loads((tmp_path / "small.json").read_text())
    assert composer(small)["config"][0]["software_config"][0]["pypi_packages"] == {
        "pandas": "==2.2.0",
        "google-cloud-spanner": "[tracing]==3.5.0",
    }


def test_topics_and_subscription_have_the_names_of_the_local_stack(plan: dict[str, Any]) -> None:
    assert [one["name"] for one in planned(plan, "google_pubsub_topic").values()] == [TOPIC]
    [subscription] = planned(plan, "google_pubsub_subscription").values()
    assert subscription["name"] == SUBSCRIPTION


def test_the_datasets_are_those_of_the_tables(plan: dict[str, Any]) -> None:
    made = {one["dataset_id"] for one in planned(plan, "google_bigquery_dataset").values()}
    assert made == {table.dataset for table in all_tables(ROOT / "sql")}


def test_nothing_expires_in_bigquery(plan: dict[str, Any]) -> None:
    for dataset in planned(plan, "google_bigquery_dataset").values():
        assert not dataset.get("default_partition_expiration_ms")
        assert not dataset.get("default_table_expiration_ms")


def test_deploy_uses_the_names_that_terraform_gives(plans: Plans) -> None:
    for size, plan in plans.items():
        target = read_target(size, PROJECT)
        assert composer(plan)["name"] == ENVIRONMENT
        assert composer(plan)["region"] == target.region
        buckets = {f"gs://{one['name']}" for one in planned(plan, "google_storage_bucket").values()}
        assert buckets == {target.bucket, target.composer_bucket, target.temp_bucket}
        assert f"gs://{composer(plan)['storage_config'][0]['bucket']}" == target.composer_bucket
        emails = {one["email"] for one in planned(plan, "google_service_account").values()}
        assert {target.service_account(role) for role in ("batch", "stream")} < emails
        [repository] = planned(plan, "google_artifact_registry_repository").values()
        assert target.image("p", "v") == (
            f"{repository['location']}-docker.pkg.dev/{PROJECT}/{repository['repository_id']}/p:v"
        )
        told = plan["planned_values"]["outputs"]["dataflow"]["value"]
        assert told["subnetwork"] == target.subnetwork
        for role in ("batch", "stream"):
            assert told[role]["machine_type"] == target.sizes[f"{role}_machine_type"]
            assert told[role]["max_workers"] == target.sizes[f"{role}_max_workers"]


def test_the_composer_image_is_named_in_one_file(plan: dict[str, Any]) -> None:
    image = composer(plan)["config"][0]["software_config"][0]["image_version"]
    assert re.fullmatch(r"composer-3-airflow-3\.3\.1(-build\.\d+)?", image)
    found = subprocess.run(
        ["git", "grep", "--untracked", "-l", re.escape(f'"{image}"')],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["infra/composer.tf"]


def test_new_dags_wait_for_somebody_to_start_them(plan: dict[str, Any]) -> None:
    overrides = composer(plan)["config"][0]["software_config"][0]["airflow_config_overrides"]
    assert overrides == {"core-dags_are_paused_at_creation": "True"}


def test_spanner_scales_by_itself_where_its_bounds_differ(plans: Plans) -> None:
    for size, plan in plans.items():
        [instance] = planned(plan, "google_spanner_instance").values()
        bounds = plan["variables"]["spanner_processing_units"]["value"]
        if bounds["min"] == bounds["max"]:
            assert (size, instance["autoscaling_config"]) == ("small", [])
            assert instance["processing_units"] == bounds["min"]
        else:
            [scaling] = instance["autoscaling_config"]
            [limits] = scaling["autoscaling_limits"]
            assert (limits["min_processing_units"], limits["max_processing_units"]) == (
                bounds["min"],
                bounds["max"],
            )
            assert instance["edition"] == "ENTERPRISE"


def test_the_streams_subscription_has_only_what_dataflow_supports_and_keeps_messages(
    plan: dict[str, Any],
) -> None:
    one = planned(plan, "google_pubsub_subscription")["google_pubsub_subscription.events_stream"]
    assert not one.get("dead_letter_policy")
    assert not one.get("retry_policy")
    assert one["message_retention_duration"] == "604800s"
    assert one["expiration_policy"] == [{"ttl": ""}]


def test_no_lifecycle_rule_deletes_what_a_running_stream_or_a_rollback_needs(plan: dict[str, Any]) -> None:
    buckets = planned(plan, "google_storage_bucket")
    deleted = {
        name: {
            prefix
            for rule in buckets[f"google_storage_bucket.{name}"]["lifecycle_rule"]
            if rule["action"][0]["type"] == "Delete"
            for prefix in rule["condition"][0]["matches_prefix"]
        }
        for name in ("data", "dataflow")
    }
    data = {"accepted/", "exports/", "forget/", "landing/", "rejected/"}
    assert deleted == {"data": data, "dataflow": {"temp/"}}


def test_what_dataflow_deletes_of_its_own_is_not_kept_and_what_the_shop_deletes_is(
    plan: dict[str, Any],
) -> None:
    buckets = planned(plan, "google_storage_bucket")
    kept = {
        name: buckets[f"google_storage_bucket.{name}"]["soft_delete_policy"][0]["retention_duration_seconds"]
        for name in ("data", "dataflow")
    }
    assert kept == {"data": 7 * 86_400, "dataflow": 0}


def test_alerts_watch_for_what_the_code_writes(plan: dict[str, Any]) -> None:
    policies = planned(plan, "google_monitoring_alert_policy")
    conditions = {address.rpartition(".")[2]: policy["conditions"][0] for address, policy in policies.items()}
    assert conditions.keys() == {
        "airflow_down", "dag_failed", "digest", "no_rows", "oldest_unacked", "rejected_share", "spanner_cpu",
    }  # fmt: skip
    [watched] = re.findall(
        rf'"{ALERT_PREFIX} (\S+)"', conditions["dag_failed"]["condition_matched_log"][0]["filter"]
    )
    # No word that a line of the data could hold by chance or by intent: drawn at random, not made of a name.
    assert uuid.UUID(watched)
    [drawn] = planned(plan, "terraform_data").values()
    assert (watched, drawn["input"]) == (drawn["id"], None)
    digest = conditions["digest"]["condition_matched_log"][0]
    assert f'"{DIGEST_PREFIX} {watched}"' in digest["filter"]
    [words] = re.findall(r'REGEXP_EXTRACT\(textPayload, "(.*)"\)', digest["label_extractors"]["words"])
    assert re.search(words, f"[...] INFO - {DIGEST_PREFIX} {watched} a day: well.")[1] == "a day: well."  # type: ignore[index]
    [environment] = planned(plan, "google_composer_environment").values()
    variables = environment["config"][0]["software_config"][0]["env_variables"]
    assert variables["SHOPSTREAM_ALERT_ID"] == watched
    counters = set(re.findall(r'"(\w+)"', _counted()))
    for name in ("no_rows", "rejected_share"):
        query = conditions[name]["condition_prometheus_query_language"][0]["query"]
        assert f'job_name="{STREAM_JOB}"' in query
        assert set(re.findall(r'metric_name="(\w+)"', query)) <= counters


def test_every_alert_tells_whom_the_variables_name(plan: dict[str, Any]) -> None:
    elsewhere = plan["variables"]["alert_channels"]["value"]
    assert elsewhere
    told = [one["notification_channels"] for one in planned(plan, "google_monitoring_alert_policy").values()]
    # The ids of those that are made here are not known yet.
    assert [[channel for channel in channels if channel] for channels in told] == [elsewhere] * len(told)
    assert {len(channels) for channels in told} == {len(elsewhere) + 1}


def test_one_page_of_cloud_monitoring_shows_what_each_alert_watches_and_its_threshold(
    plan: dict[str, Any],
) -> None:
    [page] = planned(plan, "google_monitoring_dashboard").values()
    tiles = json.loads(page["dashboard_json"])["mosaicLayout"]["tiles"]
    places = {
        (x, y)
        for t in tiles
        for x in range(t["xPos"], t["xPos"] + 6)
        for y in range(t["yPos"], t["yPos"] + 4)
    }
    assert len(places) == 24 * len(tiles), "no tile covers another"
    shown = json.dumps([tile["widget"] for tile in tiles])
    for address, policy in planned(plan, "google_monitoring_alert_policy").items():
        for condition in policy["conditions"]:
            for kind in ("condition_threshold", "condition_absent", "condition_matched_log"):
                for watched in condition[kind]:
                    assert json.dumps(watched["filter"]) in shown, address
            for watched in condition["condition_prometheus_query_language"]:
                for metric in re.findall(r"\w+_googleapis_com:\w+\{[^}]*\}", watched["query"]):
                    assert json.dumps(metric)[1:-1] in shown, address
    values = {name: one["value"] for name, one in plan["variables"].items()}
    thresholds = [
        t["value"] for tile in tiles for t in tile["widget"].get("xyChart", {}).get("thresholds", [])
    ]
    named = ("oldest_unacked_alert_seconds", "rejected_share_alert", "spanner_cpu_alert")
    assert thresholds == [*(values[name] for name in named), 0.5]


def test_spanners_cpu_is_summed_over_all_that_use_the_instance(plan: dict[str, Any]) -> None:
    policy = planned(plan, "google_monitoring_alert_policy")["google_monitoring_alert_policy.spanner_cpu"]
    [aggregation] = policy["conditions"][0]["condition_threshold"][0]["aggregations"]
    assert aggregation["cross_series_reducer"] == "REDUCE_SUM"
    assert aggregation["group_by_fields"] == ["resource.label.instance_id"]


def test_nothing_is_made_before_the_apis_are_enabled() -> None:
    without = {address for address in BLOCKS if address.startswith("google_") and not _awaits(address, APIS)}
    assert without == {APIS}


def test_what_does_not_wait_for_the_apis_is_found() -> None:
    assert _awaits("google_service_account_iam_member.github_deploys", APIS), "through local values too"
    assert not _awaits("google_project_service.api", "google_service_account.role")


APIS = "google_project_service.api"


def _blocks() -> dict[str, str]:
    """The text of each resource, by address, and of each local value, as local.name; without comments."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "infra").glob("*.tf")))
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    found = {
        f"{type_}.{name}": body
        for type_, name, body in re.findall(
            r'^resource "(\w+)" "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL
        )
    }
    for body in re.findall(r"^locals \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        for one in re.split(r"^(?=  \w+ += )", body, flags=re.MULTILINE):
            if name := re.match(r"  (\w+) +=", one):
                found[f"local.{name[1]}"] = one
    return found


BLOCKS = _blocks()


def _awaits(address: str, wanted: str) -> bool:
    """Whether Terraform makes a resource after another, since it refers to it, directly or through others."""
    seen, waiting = set[str](), [address]
    while waiting:
        referred = set(re.findall(r"(?<![\w.\"])(?:google_\w+|local)\.\w+", BLOCKS[waiting.pop()]))
        waiting += (referred - seen) & BLOCKS.keys()
        seen |= referred
    return wanted in seen


def _counted() -> str:
    """The names of the counters in the text of the stream's pipeline."""
    text = (ROOT / "beam_jobs" / "stream_events.py").read_text()
    found = re.search(r'Metrics\.counter\("stream_events", name\) for name in \(([^)]*)\)', text)
    assert found, "the stream's counters are written in another way; correct this test and alerts.tf"
    return found[1]


def test_every_grant_is_in_the_table_of_permissions_and_the_other_way_round(plans: Plans) -> None:
    granted = sorted(grants(plans["production"]))
    rows = re.findall(
        r"^\| (.*?) \| (.*?) \| (.*?) \| .+ \|$", (ROOT / "docs" / "permissions.md").read_text(), re.MULTILINE
    )
    described = sorted(row for row in rows if row[0] != "account" and not set(row[0]) <= {"-"})
    assert granted == described


def test_the_views_that_analysts_cannot_read_by_the_dataset_shop_alone_are_told() -> None:
    elsewhere = {
        table.full_name: {f"`{read}`" for read in table.metadata.reads if not read.startswith("shop.")}
        for table in all_tables(ROOT / "sql")
        if table.dataset == "shop" and table.view
    }
    text = (ROOT / "docs" / "permissions.md").read_text()
    told = {
        view: set(re.findall(r"`shop_\w+\.\w+`", line))
        for view, line in re.findall(r"^  - `(shop\.\w+)`(.*)$", text, re.MULTILINE)
    }
    assert told == {view: reads for view, reads in elsewhere.items() if reads}


def test_permissions_do_not_depend_on_the_size(plans: Plans) -> None:
    assert len({tuple(sorted(grants(plan))) for plan in plans.values()}) == 1


def test_nobody_is_owner_editor_or_admin(plan: dict[str, Any]) -> None:
    for _, role, _ in grants(plan):
        assert (
            not re.search(r"owner|editor$|admin", role, re.IGNORECASE) or role == "roles/bigquery.dataEditor"
        )


def grants(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each grant of the plan as (account, role, on what), in the words of docs/permissions.md."""
    configured = {
        one["address"]: one.get("expressions", {})
        for one in plan["configuration"]["root_module"]["resources"]
    }
    found = []
    for one in plan["planned_values"]["root_module"]["resources"]:
        if not one["type"].endswith("_iam_member"):
            continue
        values, expressions = one["values"], configured[f"{one['type']}.{one['name']}"]
        found.append(
            (_account(values), values["role"].rpartition("/roles/")[2], _target(plan, one, expressions))
        )
    return found


def _account(values: dict[str, Any]) -> str:
    member = values.get("member") or ""
    if own := re.fullmatch(rf"serviceAccount:shopstream-(\w+)@{PROJECT}\.iam\.gserviceaccount\.com", member):
        return own[1]
    if googles := re.search(r"@gcp-sa-(\w+)\.", member):
        return GOOGLES[googles[1]]
    return "readers" if member == READER else GITHUB


def _target(plan: dict[str, Any], one: dict[str, Any], expressions: dict[str, Any]) -> str:
    values = one["values"]
    match one["type"].removeprefix("google_").removesuffix("_iam_member"):
        case "project":
            return "the project"
        case "storage_bucket":
            ending = values["bucket"].rpartition("-")[2]
            bucket = f"the {ending.capitalize() if ending != 'shopstream' else 'data'} bucket"
            prefixes = re.findall(r"/objects/(\w+/)", str(values["condition"]))
            return ", ".join([bucket, *(f"`{prefix}`" for prefix in prefixes)])
        case "cloud_run_service" | "iap_web_cloud_run_service":
            return "the dashboard"
        case "spanner_database":
            return "the Spanner database"
        case "bigquery_dataset":
            return f"dataset `{values['dataset_id']}`"
        case "artifact_registry_repository":
            return "the image repository"
        case "secret_manager_secret":
            secrets = planned(plan, "google_secret_manager_secret")
            [address] = secrets.keys() & set(expressions["secret_id"]["references"])
            return f"secret `{secrets[address]['secret_id']}`"
        case "pubsub_topic" | "pubsub_subscription" as kind:
            kind = kind.removeprefix("pubsub_")
            address = next(name for name in expressions[kind]["references"] if name.count(".") == 1)
            return f"{kind} `{planned(plan, f'google_pubsub_{kind}')[address]['name']}`"
        case "service_account":
            references = expressions["service_account_id"]["references"]
            named = re.search(r'\["(\w+)"\]', " ".join(references))
            return f"account `{named[1] if named else one['index']}`"
        case other:
            raise AssertionError(f"say here, and in docs/permissions.md, what a grant on {other} is on")
