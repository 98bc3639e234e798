# Everything works from a fresh clone: each target sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# A file's tests share a worker, and so do all tests of Slurm.
PARALLEL := -n auto --maxprocesses 4 --dist loadgroup

.PHONY: quickstart test test-fast lint install docs deepspeed

quickstart: install ## train DPO and AdaDPO on the embedded model, end with a report
	$(BIN)/adadpo launch sweeps/configs/quickstart.yaml

test: lint ## every check
	$(BIN)/pytest $(PARALLEL) $(PYTEST)

test-fast: install ## what needs no trained model, Slurm, browser or LaTeX
	$(BIN)/pytest $(PARALLEL) -m "not (train or cluster or browser or latex or slow)" $(PYTEST)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(INSTALLED)

docs: .venv-docs/installed ## the site, in site/: docs/, the README, the docstrings; a broken link is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

# Of its own: docstrings are read, not imported, so the site needs none of the packages of .venv.
.venv-docs/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -c constraints.txt $$($(PYTHON) -c \
	  "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	@touch $@

deepspeed: .deepspeed/installed ## for the test of zero3: where it is installed, every test of training imports it

.deepspeed/installed: .ci/deepspeed.txt $(INSTALLED)
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --upgrade --target .deepspeed -r .ci/deepspeed.txt
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "adadpo needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "python3 has no venv module here; installing the package python3-venv"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; \
	  else echo "please run: sudo apt-get install python3-venv"; exit 1; fi; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
