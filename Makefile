# The workshop. `make` alone lists the verbs; CONTRIBUTING.md says which one when.
#
# Two environments, both from the locks in requirements/ with every hash checked:
#   .venv        what runs, for people: `make demo`
#   build/venv   what runs plus the tools, for every check
# In each, cubeauth is a built wheel, never the source folders: what is tested is what is shipped.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# A caller's settings must not put the source folders, or another environment, in front of the wheel.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_USER := 0

# "COMMAND VERSION" of the first that is new enough; only PYTHON itself when the caller names one.
FOUND := $(shell for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	version=$$($$python -c 'import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null) \
	&& echo "$$python $$version" && break; done)
PYTHON_FOUND := $(word 1,$(FOUND))
PYTHON_VERSION := $(word 2,$(FOUND))

APP := .venv
DEV := build/venv
# The version is part of a stamp's name: another Python makes another environment.
APP_LOCKED := $(APP)/.locked-$(PYTHON_VERSION)
DEV_LOCKED := $(DEV)/.locked-$(PYTHON_VERSION)
APP_READY := $(APP)/.cubeauth-$(PYTHON_VERSION)
DEV_READY := $(DEV)/.cubeauth-$(PYTHON_VERSION)

PACKAGES := protocol runtime client authnode resources sidecar cli
# All that the wheel is made of. Folders too: theirs is the only time that changes when a module is deleted.
SOURCES := pyproject.toml LICENSE README.md $(shell find $(PACKAGES) examples -name __pycache__ -prune -o -print)

# Test processes beside each other; integration tests start servers of several processes themselves.
JOBS ?= auto
PYTEST := $(DEV)/bin/python -m pytest
UNIT := tests --ignore=tests/integration

say = @printf '==> %s\n' '$(1)'

# Without wheels a package would be built with tools that no lock names, so source archives are refused.
define environment
$(if $(FOUND),,$(error cubeauth needs Python 3.11 or later$(if $(PYTHON), and PYTHON=$(PYTHON) is none,; on Debian: apt-get install python3 python3-venv; if it is not on the PATH: make PYTHON=/path/to/python3)))
$(if $(shell $(PYTHON_FOUND) -c 'import ensurepip, venv; print(1)' 2>/dev/null),,$(error $(PYTHON_FOUND) has no ensurepip to make an environment with; on Debian: apt-get install python$(basename $(PYTHON_VERSION))-venv))
$(call say,$(@D): a new environment with Python $(PYTHON_VERSION))
@$(PYTHON_FOUND) -m venv --clear $(@D)
$(call say,$(@D): installing $(1)$(,) every hash checked (a minute when nothing is cached))
@$(@D)/bin/python -m pip install --quiet --require-hashes --only-binary=:all: $(foreach lock,$(1),-r $(lock))
@touch $@
endef

define wheel
$(call say,$(@D): building and installing cubeauth)
@rm -rf build/wheel && mkdir -p build
@$(@D)/bin/python -m hatchling build -t wheel -d build/wheel >build/wheel.log 2>&1 || { cat build/wheel.log >&2; exit 1; }
@$(@D)/bin/python -m pip install --quiet --no-index --no-deps --force-reinstall build/wheel/cubeauth-*.whl
@rm -f $(@D)/.cubeauth-*
@touch $@
endef

, := ,

$(APP_LOCKED): requirements/run.txt requirements/build.txt
	$(call environment,requirements/run.txt requirements/build.txt)

$(DEV_LOCKED): requirements/dev.txt
	$(call environment,requirements/dev.txt)

$(APP_READY): $(APP_LOCKED) $(SOURCES)
	$(wheel)

$(DEV_READY): $(DEV_LOCKED) $(SOURCES)
	$(wheel)

.PHONY: help demo install test format lint types unit integration fuzz bench lock clean

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 21

demo: $(APP_READY) ## install into .venv, then show a whole CubeFS authentication and its refusals (ARGS="--json")
	@$(APP)/bin/cubeauth demo $(ARGS)

install: $(APP_READY) ## install into .venv only; the program is .venv/bin/cubeauth
	$(call say,installed: $(APP)/bin/cubeauth)

test: lint types unit integration fuzz ## every check, on the built wheel; what CI runs

format: $(DEV_LOCKED) ## rewrite the code as the linter wants it
	$(call say,format: ruff)
	@$(DEV)/bin/ruff check --quiet --fix .
	@$(DEV)/bin/ruff format .

lint: $(DEV_READY) ## ruff, its formatter, and the layers of pyproject.toml
	$(call say,lint: ruff check$(,) ruff format --check$(,) import-linter)
	@$(DEV)/bin/ruff check .
	@$(DEV)/bin/ruff format --check .
	@$(DEV)/bin/lint-imports

types: $(DEV_LOCKED) ## mypy --strict over code and tests
	$(call say,types: mypy --strict over code$(,) tests and bench)
	@$(DEV)/bin/mypy .

unit: $(DEV_READY) ## all tests but tests/integration (ARGS="-k replay")
	$(call say,unit: tests of parts$(,) of the keystore$(,) of the commands in the documentation)
	@$(PYTEST) $(UNIT) --numprocesses=$(JOBS) $(ARGS)

integration: $(DEV_READY) ## tests that start whole processes
	$(call say,integration: whole processes against each other)
	@$(PYTEST) tests/integration $(ARGS)

fuzz: $(DEV_READY) ## every hypothesis test with ten times the examples
	$(call say,fuzz: every hypothesis test$(,) ten times the examples)
	@HYPOTHESIS_PROFILE=fuzz $(PYTEST) $(UNIT) -m hypothesis --timeout=900 --numprocesses=$(JOBS) $(ARGS)

BENCH ?= $(filter-out support,$(basename $(notdir $(wildcard bench/*.py))))
bench: $(DEV_READY) ## what the figures in README.md come from (BENCH=tickets for one)
	$(call say,bench: $(BENCH); leave the machine alone meanwhile)
	@for bench in $(BENCH); do $(DEV)/bin/python -m bench.$$bench $(ARGS) || exit 1; done

# Keeps what is locked unless asked: UPGRADE=--upgrade, or UPGRADE="--upgrade-package aiohttp".
UV ?= uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(UPGRADE)
lock: ## make requirements/*.txt again from pyproject.toml, with uv (UPGRADE=--upgrade)
	$(if $(shell command -v $(UV)),,$(error make lock needs uv; python3 -m pip install uv, or name one: make lock UV=/path/to/uv))
	$(call say,lock: requirements/run.txt$(,) dev.txt$(,) build.txt)
	@$(COMPILE) --all-extras pyproject.toml -o requirements/run.txt
	@$(COMPILE) --all-extras --group dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt
	@$(COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt

clean: ## remove both environments, the wheel and every cache
	@rm -rf $(APP) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find $(PACKAGES) tests bench -name __pycache__ -prune -exec rm -rf {} +
