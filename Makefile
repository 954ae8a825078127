# make app starts the lab, make test proves it; each makes what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# a stamp is named after what it installed: a file that was only touched installs nothing again, one that changed does
APP := $(VENV)/.app-$(firstword $(shell cksum < requirements.txt))
TEST := $(VENV)/.test-$(firstword $(shell cat requirements.txt requirements-dev.txt | cksum))
export GRADIO_ANALYTICS_ENABLED := False
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: app test lint types gallery organisms figures browser clean

app: $(APP)
	$(BIN)/python app.py $(ARGS)

# torch is installed alone and first, so that nothing else chooses its build
$(APP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $$(grep -E '^torch==' requirements.txt)
	$(BIN)/pip install -q -r requirements.txt
	touch $@

$(TEST): $(APP)
	$(BIN)/pip install -q -r requirements-dev.txt
	touch $@

# One thread each: the app that the browser tests start runs beside them, and threads that wait for a core held by another are many times slower.
# Two processes for all tests but those, which read the clock. pytest ends with 5 where ARGS chose no test of a half; without ARGS that is a fault.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
FINE := $(if $(ARGS),5,0)
test: $(TEST) browser
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -n 2 --dist worksteal -m "not browser" $(ARGS) || [ $$? = $(FINE) ]
	$(PYTEST) -m browser $(ARGS) || [ $$? = $(FINE) ]

# Debian's chromium where it may be installed; else a browser that is here; else the browser tests say that they were skipped
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || command -v chromium-browser >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else false; fi || echo "no Chromium, and none could be installed: the browser tests will be skipped, or fail where CI is set"; }

lint: $(TEST)
	$(BIN)/ruff check .

types: $(TEST)
	$(BIN)/mypy

gallery: $(APP)
	$(BIN)/python -m panels.gallery

organisms: $(APP)
	for name in scribe scribe-b scribe-oracle-a scribe-oracle-b; do $(BIN)/python -m models.organisms grow $$name || exit 1; done

figures: $(TEST)
	$(BIN)/python -m bench.organism

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
