# What a developer does here. `make help` lists it.

PYTHON ?= python3.11
UV_VERSION := 0.13.9
UV := .venv-uv-$(UV_VERSION)/bin/uv
BIN := .venv/bin
INSTALLED := .venv/.installed .venv-emulators/.installed plugins/shopstream/charts/vega.js
ANALYZER := tools/googlesql/node_modules/.installed
# One process more than there are cores, since many tests wait for something. The tests of a file stay in one
# process, since they share what was made for them.
PROCESSES := -n $(shell expr `nproc` + 1) --maxprocesses 5 --dist loadfile --no-loadscope-reorder
# The fast tests wait for nothing: a process for each core, and first the files with the most tests.
FAST := -n $(shell nproc) --maxprocesses 5 --dist loadfile -m "not integration and not soak"

# Some machines have Python write no bytecode: each of the hundreds of programs that the tests and the stack
# start would compile the same modules.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPATH := $(CURDIR):$(CURDIR)/plugins

# put, load, summaries, sql and contract-whatif are for the local stack, or with both of these for a real project.
REAL = $(if $(ENV),--env "$$ENV") $(if $(PROJECT),--project "$$PROJECT")

# What people type goes to a command as it is, by the environment: neither make nor the shell reads a $ in it.
# Not ARGS, which is several words that the shell tells apart.
TYPED := DAY ENV FILE INPUT JSON LAST_DAY PAGE PART PROBE PROJECT Q REASON SAMPLE SECONDS SEED SERVICE STORE USER_ID \
	VERSION
$(foreach name,$(TYPED),$(if $(filter command environment,$(firstword $(origin $(name)))),\
	$(eval override export $(name) := $$(value $(name)))))

.DEFAULT_GOAL := help
.PHONY: help install lock demo test test-fast test-long test-durations check bench bench-month soak faults drill fuzz up down reset status put load summaries sql contract-whatif stream kill-stream dashboard bi-link screenshots logs compose-proof cost scale cloud-proof infra-check audit deploy rollback clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) $(ANALYZER) ## Make .venv, .venv-emulators and the SQL analyzer as the lock files say
	@echo "Everything is installed."

demo: $(INSTALLED) ## Load and analyse generated days; INPUT=file for events of yours, BAD_DAY=1 for one that asks, KEEP=1 to leave it running
	@$(BIN)/python -m local.demo $(if $(INPUT),--input "$$INPUT") $(if $(KEEP),--keep) $(if $(REPLACE),--replace) $(if $(BAD_DAY),--bad-day)

test: $(INSTALLED) $(ANALYZER) .venv-infra/.installed chromium ## Run all tests; ARGS="-k name" for some, ARGS=-n0 in one process
	@$(BIN)/pytest $(PROCESSES) $(ARGS)

test-fast: $(INSTALLED) ## Run the tests that start neither an emulator nor an Airflow
	@$(BIN)/pytest $(FAST) $(ARGS)

test-long: $(INSTALLED) chromium ## Run the tests that take too long for `make test`: the walk of docs/local.md, Airflow's pages in a browser, all drills and faults, more generated cases
	@$(BIN)/pytest $(PROCESSES) -m "soak or hypothesis" --hypothesis-profile=long --timeout=900 $(ARGS)

test-durations: ## Run all tests and tell the 30 slowest steps
	@$(MAKE) --no-print-directory test ARGS="--durations=30 $(ARGS)"

# All others run beside mypy, which takes as long as they do.
check: $(INSTALLED) $(ANALYZER) ## Check lint, format, types, imports, SQL and generated docs
	@failed=0; told=$$(mktemp); mypy="mypy beam_jobs plugins/shopstream dags infra local tools tests bench"; \
	$(BIN)/$$mypy >$$told 2>&1 & \
	trap "rm -f $$told" EXIT; trap "kill $$!; exit 130" INT TERM; \
	check() { echo "== $$*"; "$(BIN)/$$@" || failed=$$((failed + 1)); }; \
	check ruff check .; \
	check ruff format --check .; \
	check lint-imports; \
	check sqlfluff lint --disable-progress-bar sql plugins/shopstream; \
	check python -m tools.googlesql; \
	check python -m tools.docs --check; \
	check python -m tools.cost.limits --check; \
	echo "== $$mypy"; wait $$! || failed=$$((failed + 1)); cat $$told; \
	if [ $$failed != 0 ]; then echo "== $$failed of 8 checks failed"; exit 1; fi; \
	echo "== all checks passed"

bench: $(INSTALLED) ## Measure what all costs into build/bench/result.json; PART=load for one part; beside a running stack PART=page too
	@$(BIN)/python -m bench $(if $(PART),"$$PART")
	@test -n "$$PART" || $(BIN)/python -m bench.bench_parse
	@test -n "$$PART" || $(BIN)/python -m bench.bench_spanner_sink

bench-month: $(INSTALLED) $(ANALYZER) ## Compare all summaries of a generated month with other means; their seconds and bytes
	@$(BIN)/python -m bench.month

soak: $(INSTALLED) ## Kill, drain and update the stream under a million messages; fail if any is lost or doubled
	@$(BIN)/python -m bench.soak_stream

faults: $(INSTALLED) ## Kill loads at 20 moments, and let each store fail in each way, under a load and the stream
	@$(BIN)/pytest -n0 -m "killpoint or outage" $(ARGS)

drill: $(INSTALLED) ## Carry out the runbooks on the local stack and print what came of it; ARGS="gate --away-seconds 600" for some
	@$(BIN)/python -m local.drills $(ARGS)

fuzz: $(INSTALLED) | $(UV) ## Look, guided by coverage, for bytes that break the reader or the parser; SECONDS=600
	@test -d build/fuzz/atheris || $(UV) pip install --quiet --python $(BIN)/python --target build/fuzz atheris==3.0.0
	@PYTHONPATH="$$PYTHONPATH:build/fuzz" $(BIN)/python -m bench.fuzz $(if $(SECONDS),"$$SECONDS",600)

up: $(INSTALLED) ## Start the local stack, ready to use: emulators, local Dataflow, Airflow, all tables
	@$(BIN)/python -m local.hand up

down: ## Stop the local stack: all rows and landed files are lost; its logs and login stay
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m local.stack down; fi

reset: down up ## Stop the local stack, with all rows and landed files, and start it anew, empty

status: $(INSTALLED) ## Tell the local stack's pages, login, what runs, and the rows of its main tables
	@$(BIN)/python -m local.hand status

put: $(INSTALLED) ## Land a file of events: FILE=; UTC=1 if its times lack a zone, DAY= as all of one landing day, REPLACE=1 in place of its files
	@$(BIN)/python -m local.hand put $(REAL) $(if $(DAY),--day "$$DAY") $(if $(REPLACE),--replace) $(if $(UTC),--utc) "$$FILE"

load: $(INSTALLED) ## Load a landing day and tell what came of it: DAY=
	@$(BIN)/python -m local.hand load $(REAL) "$$DAY"

summaries: $(INSTALLED) ## Build the summaries of loaded days anew: DAY=, or from it to LAST_DAY=
	@$(BIN)/python -m local.hand summaries $(REAL) $(if $(LAST_DAY),--last-day "$$LAST_DAY") "$$DAY"

sql: $(INSTALLED) ## Ask BigQuery, or STORE=spanner: Q='SELECT ...', Q=file.sql, or a prompt
	@$(BIN)/python -m local.hand sql $(REAL) $(if $(STORE),--store "$$STORE") $(if $(CSV),--csv) $(if $(Q),"$$Q")

contract-whatif: $(INSTALLED) ## Judge kept rejects and a sample of accepted rows by this working tree's contract: DAY=, LAST_DAY=, REASON=, SAMPLE=rows, SEED=
	@$(BIN)/python -m local.hand contract-whatif $(REAL) $(if $(LAST_DAY),--last-day "$$LAST_DAY") \
		$(if $(REASON),--reason "$$REASON") $(if $(SAMPLE),--sample "$$SAMPLE") $(if $(SEED),--seed "$$SEED") "$$DAY"

stream: $(INSTALLED) ## Start the local stack's stream, and publish a landed day as if it happened now: DAY=
	@$(BIN)/python -m local.hand stream "$$DAY"

kill-stream: $(INSTALLED) ## Kill the process of the local stack's stream, as a crash would
	@$(BIN)/python -m local.hand kill-stream

dashboard: $(INSTALLED) ## Serve the dashboard beside the running stack; PROJECT=id for a real project
	@$(BIN)/python -m tools.dashboard $(if $(PROJECT),--project "$$PROJECT")

bi-link: $(INSTALLED) ## Print the addresses that open each summary in Looker Studio; PROJECT=id
	@$(BIN)/python -m tools.bi_link --project "$$PROJECT"

screenshots: $(INSTALLED) ## Look at each page of the dashboard in Chromium, beside the running stack; USER_ID=a customer's, PAGE=live for one
	@$(BIN)/python -m tools.screenshots --out docs $(if $(USER_ID),--user "$$USER_ID") $(if $(PAGE),--only "$$PAGE")

logs: $(INSTALLED) ## Follow the local stack's logs; SERVICE=scheduler for one
	@$(BIN)/python -m local.stack logs $(if $(SERVICE),"$$SERVICE")

compose-proof: $(INSTALLED) ## Prove docker-compose.yaml and the Dockerfile with a Docker engine of its own (as root)
	@$(BIN)/python -m tools.compose_proof

cloud-proof: $(INSTALLED) $(ANALYZER) ## Ask Google Cloud what only it can tell: ENV= PROJECT=, or the running stack; YES=1 asks, PROBE=name for one
	@$(BIN)/python -m tools.cloud_proof $(REAL) $(if $(YES),--yes) $(if $(PROBE),"$$PROBE")

cost: $(INSTALLED) $(ANALYZER) ## Print what a month costs, by service and query, at 1, 100 and 10,000 times this shop; JSON= writes it
	@$(BIN)/python -m tools.cost $(if $(JSON),--json "$$JSON")

scale: $(INSTALLED) $(ANALYZER) ## Print what 1, 100 and 10,000 times this shop need, and at how many times each limit is met
	@$(BIN)/python -m bench.scale

infra-check: .venv-infra/.installed ## Check infra/ by the Google provider's schema, without a cloud
	@.venv-infra/bin/python -m tools.infra_check

audit: | $(UV) ## Look for known weaknesses, in the code (bandit) and in what it depends on (asks pypi.org and npmjs.org)
	@failed=0; \
	$(UV) tool run --quiet --python $(PYTHON) --from "bandit[toml]==1.9.4" bandit --quiet --configfile pyproject.toml \
		--recursive beam_jobs dags infra local plugins tools --exclude tools/googlesql/node_modules || failed=1; \
	for lock in requirements.txt local/emulators.txt; do \
		$(UV) tool run --quiet --python $(PYTHON) pip-audit==2.10.1 --strict --disable-pip --no-deps --requirement $$lock || failed=1; \
	done; \
	npm audit --prefix tools/googlesql --package-lock-only || failed=1; \
	exit $$failed

deploy: $(INSTALLED) ## Deploy this commit: ENV=small|medium|production PROJECT=id; DRY_RUN=1 prints every command
	@$(BIN)/python -m infra.deploy deploy --env "$$ENV" --project "$$PROJECT" $(if $(DRY_RUN),--dry-run)

rollback: $(INSTALLED) ## Go back to a deployed version: ENV= PROJECT= VERSION=; DRY_RUN=1 prints every command
	@$(BIN)/python -m infra.deploy rollback --env "$$ENV" --project "$$PROJECT" --version "$$VERSION" \
		$(if $(DRY_RUN),--dry-run)

lock: $(UV) ## Resolve requirements.in and local/emulators.in anew into the lock files
	$(UV) pip compile --quiet --upgrade --no-header --no-annotate --python-version 3.11 \
		requirements.in --output-file requirements.txt
	$(UV) pip compile --quiet --upgrade --no-header --no-annotate --python-version 3.11 \
		local/emulators.in --output-file local/emulators.txt

clean: down ## Stop the local stack; remove build/ and all caches, but not the virtual environments
	rm -rf build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

# Without root or apt-get, the tests of the pages are skipped and say why; with CI set that fails the run.
.PHONY: chromium
chromium:
	@test -n "$$SHOPSTREAM_CHROMIUM" || command -v chromium >/dev/null || command -v google-chrome >/dev/null \
		|| ! command -v apt-get >/dev/null || test "$$(id -u)" != 0 || { \
		echo "Installing Debian's Chromium, in which the tests look at the pages"; export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install --yes --no-install-recommends -qq chromium >/dev/null; } \
			|| echo "It could not be installed: the tests that need it are skipped, which with CI set fails the run" >&2; }

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 is needed, and $(PYTHON) is not that: install it, or name it by PYTHON=/path/to/python3.11." >&2; exit 1; }
	@echo "Installing uv $(UV_VERSION)"
	@$(PYTHON) -m venv .venv-uv-$(UV_VERSION)
	@.venv-uv-$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Compiled while installing, since Airflow's programs would each compile the same modules at their first start.
.venv/.installed: requirements.txt | $(UV)
	@echo "Installing Airflow, Beam and the tools into .venv; the first time takes some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.txt
	@touch $@

.venv-emulators/.installed: local/emulators.txt | $(UV)
	@echo "Installing the emulators into .venv-emulators"
	@test -x .venv-emulators/bin/python || $(PYTHON) -m venv .venv-emulators
	@rm -rf .venv-emulators/duckdb-home
	@$(UV) pip sync --quiet --compile-bytecode --python .venv-emulators/bin/python local/emulators.txt
	@touch $@

$(ANALYZER): tools/googlesql/package-lock.json
	@command -v npm >/dev/null || { \
		echo "npm is needed to fetch Google's SQL analyzer: install Node.js (Debian: nodejs and npm)." >&2; exit 1; }
	@echo "Installing Google's SQL analyzer into tools/googlesql/node_modules, 350 MB"
	@npm ci --prefix tools/googlesql --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Beside the terraform program: the provider's schema (50 MB), which only the check of infra/ reads.
.venv-infra/.installed: tools/infra_check/requirements.txt | $(UV)
	@echo "Installing the schema of the Google provider into .venv-infra"
	@test -x .venv-infra/bin/python || $(PYTHON) -m venv .venv-infra
	@$(UV) pip sync --quiet --python .venv-infra/bin/python tools/infra_check/requirements.txt
	@touch $@

plugins/shopstream/charts/vega.js: tools/vega_bundle.py .venv/.installed
	@$(BIN)/python -m tools.vega_bundle
