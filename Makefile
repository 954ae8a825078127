# make app starts the lab, make test proves it; each makes what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export GRADIO_ANALYTICS_ENABLED := False
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: app test lint types gallery organisms figures browser clean

app: $(VENV)/.app
	$(BIN)/python app.py $(ARGS)

# torch is installed alone and first, so that nothing else chooses its build
$(VENV)/.app: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $$(grep -E '^torch==' requirements.txt)
	$(BIN)/pip install -q -r requirements.txt
	touch $@

$(VENV)/.test: $(VENV)/.app requirements-dev.txt
	$(BIN)/pip install -q -r requirements-dev.txt
	touch $@

test: $(VENV)/.test browser
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest $(ARGS)

# Debian's chromium where it may be installed; else a browser that is here; else the browser tests say that they were skipped
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || command -v chromium-browser >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else echo "no Chromium and no right to install one: the browser tests will be skipped"; fi; }

lint: $(VENV)/.test
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

gallery: $(VENV)/.app
	$(BIN)/python -m panels.gallery

organisms: $(VENV)/.app
	for name in scribe scribe-b scribe-oracle-a scribe-oracle-b; do $(BIN)/python -m models.organisms grow $$name || exit 1; done

figures: $(VENV)/.test
	$(BIN)/python -m bench.organism

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
