# make demo: a small street world, a closed segmentor on it, OpenGAN on top, one table, pictures.
# make test: the whole test suite. Both create .venv first; only Python 3.11 or 3.12 and make are needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo demo-segmentor test lint clean

# Waiting threads spin for a moment, then sleep: spinning for ever, torch's default, is several times slower beside
# other work, and sleeping at once a quarter slower on a machine with nothing else to do.
demo: $(READY)
	GOMP_SPINCOUNT=100000 $(BIN)/python -m demo

# The segmentor that the demo brings along; an hour on 2 cores.
demo-segmentor: $(READY)
	GOMP_SPINCOUNT=100000 $(BIN)/python -m demo.segmentor

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): requirements-pinned.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -r requirements-pinned.txt
	$(BIN)/python -m pip install --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) demo_output
