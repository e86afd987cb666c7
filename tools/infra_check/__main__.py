"""Checks infra/ without a cloud: format, every type, argument, reference and value, and a plan of each size.

    python -m tools.infra_check [--folder FOLDER] [--plans FOLDER]

The terraform program judges; the Google provider's published schema stands in for the provider (see
provider_schema.py, provider.py). Exits non-zero, and Terraform names file, line, resource and argument.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local.root import ROOT
from tools.infra_check.provider import serving
from tools.infra_check.provider_schema import PROVIDER_VERSION, resource_schemas

INFRA = ROOT / "infra"
VARIABLES = {
    "TF_VAR_project": "shopstream-offline",
    # What is optional too, so that all of it is planned.
    "TF_VAR_alert_emails": '["on-call@example.com"]',
    "TF_VAR_alert_channels": '["projects/shopstream-offline/notificationChannels/1"]',
    "TF_VAR_billing_account": "012345-6789AB-CDEF01",
    "TF_VAR_github_repository": "example/shopstream",
    "TF_VAR_dashboard_image": "us-central1-docker.pkg.dev/shopstream-offline/shopstream/dashboard:v1",
    "TF_VAR_dashboard_readers": '["group:analysts@example.com"]',
}
_ENVIRONMENT = {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull}
_OWN = re.compile(r'^resource "terraform_data" "(\w+)"', re.M)
_DECLARED = re.compile(r'^(resource|data) "(google_\w+)"', re.M)


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when all is right."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.infra_check", description="Check infra/ without a cloud."
    )
    parser.add_argument("--folder", type=Path, default=INFRA, help="what to check (default: infra/)")
    parser.add_argument("--plans", type=Path, help="write each size's plan to FOLDER/<size>.json")
    options = parser.parse_args(argv)
    if shutil.which("terraform") is None:
        print(
            "terraform is not installed; see https://developer.hashicorp.com/terraform/install",
            file=sys.stderr,
        )
        return 1
    return check(options.folder, options.plans)


def check(folder: Path, plans: Path | None = None) -> int:
    """Check the Terraform files of a folder; 0 when all is right. Terraform prints what is wrong."""
    began = time.monotonic()
    text = "\n".join(path.read_text() for path in sorted(folder.glob("*.tf")))
    declared, drawn = _DECLARED.findall(text), _OWN.findall(text)
    names = {"provider", *(("data." if kind == "data" else "") + name for kind, name in declared)}
    with serving(resource_schemas(names)) as reattach, tempfile.TemporaryDirectory() as copy:
        if _terraform(folder, ["fmt", "-check", "-diff", "-recursive"]):
            print("The files above are not in Terraform's format: run `terraform fmt -recursive infra`.")
            return 1
        for pattern in ("*.tf", "*.tfvars", "*.txt"):
            for path in folder.glob(pattern):
                shutil.copy(path, copy)
        # The state of a check is nowhere; an override file replaces the real backend.
        Path(copy, "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
        if _terraform(copy, ["init", "-input=false"], reattach, quiet=True):
            return 1
        if _terraform(copy, ["validate"], reattach):
            return 1
        for variables in sorted(folder.glob("*.tfvars")):
            size = variables.stem
            given = ["-input=false", "-refresh=false", f"-var-file={variables.name}"]
            # What Terraform makes by itself is made, so that the plan shows what is made of it.
            own = ["apply", "-auto-approve", *given, *(f"-target=terraform_data.{name}" for name in drawn)]
            plan = ["plan", *given, f"-out={size}.plan"]
            for arguments in (own, plan) if drawn else (plan,):
                if _terraform(copy, arguments, reattach | VARIABLES, quiet=True):
                    return 1
            shown = subprocess.run(
                ["terraform", "show", "-json", f"{size}.plan"],
                cwd=copy, env={**os.environ, **_ENVIRONMENT, **reattach}, capture_output=True, check=True,
            ).stdout  # fmt: skip
            if plans:
                plans.mkdir(parents=True, exist_ok=True)
                (plans / f"{size}.json").write_bytes(shown)
            planned = [
                change for change in json.loads(shown)["resource_changes"] if change["mode"] == "managed"
            ]
            print(f"terraform plan of {size}: {len(planned)} resources")
    print(
        f"{len(declared)} resource and data blocks of {len(names) - 1} types are right by the schema of "
        f"hashicorp/google {PROVIDER_VERSION} ({time.monotonic() - began:.0f} s)"
    )
    return 0


def _terraform(
    folder: str | Path,
    arguments: list[str],
    environment: dict[str, str] | None = None,
    *,
    quiet: bool = False,
) -> int:
    """Run terraform and print its output; with `quiet` only what is wrong."""
    done = subprocess.run(
        ["terraform", *arguments, *(["-no-color"] if arguments[0] != "fmt" else [])],
        cwd=folder,
        env={**os.environ, **_ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stderr if quiet else done.stdout + done.stderr).strip()
    if said or not quiet:
        print(f"terraform {arguments[0]}: {said or 'nothing to say'}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
