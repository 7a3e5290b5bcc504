# Each target does all of its own set-up; nothing but Python ≥ 3.11 and make is needed.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
RESULTS ?= results
JOBS ?= 1
PORT ?= 8000
INSTALLED := $(VENV)/.installed

.PHONY: install train serve test check docs results benchmark lock clean

install: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

train: $(INSTALLED)
	$(RUN) scripts/train.py --method sgd --json $(RESULTS)/train.json --plots $(RESULTS)
	$(RUN) scripts/compare_surprise.py --json $(RESULTS)/compare.json
	$(RUN) scripts/fold_in_timing.py --json $(RESULTS)/fold_in.json --plots $(RESULTS)
	$(RUN) scripts/summary.py --results $(RESULTS)

# A model of the embedded ratings, fitted where the folder holds none yet, on 127.0.0.1 until Ctrl-C.
serve: $(INSTALLED)
	$(RUN) scripts/start.py --out $(RESULTS)/start --titles $(RESULTS)/titles.csv
	$(RUN) -m jaxmf.live $(RESULTS)/live --start $(RESULTS)/start --titles $(RESULTS)/titles.csv --port $(PORT)

test: $(INSTALLED)
	$(RUN) -m pytest -n 2 --dist loadfile

check: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright
	$(VENV)/bin/lint-imports
	$(RUN) scripts/check_wheel.py
	$(MAKE) docs
	$(RUN) scripts/check_pages.py

# One notebook at a time, as the pages' times are measured meanwhile; JOBS=2 halves the wait where nobody reads them.
docs: $(INSTALLED)
	$(RUN) -m sphinx -W --keep-going -j $(JOBS) -b html docs docs/_build/html

# The tables of the results page and of the six kinds of ratings, and the first page's picture, with the times of
# `make benchmark` where that has run: about three quarters of an hour. EPINIONS=FOLDER adds the table of clicks.
results: $(INSTALLED)
	$(RUN) scripts/results.py --out $(RESULTS)/results --page docs/results.md --anywhere docs/anywhere.md --pictures docs/_static $(addprefix --epinions ,$(EPINIONS)) $(addprefix --benchmark ,$(wildcard $(RESULTS)/benchmark.json))

# Other libraries, in an environment of their own; nothing else should run at the time.
benchmark: $(INSTALLED)
	$(RUN) scripts/benchmark.py --environment .venv-peers --json $(RESULTS)/benchmark.json --plots $(RESULTS)

# The pinned requirements of every Python from 3.11 on, without an index or a download address.
lock:
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header --extra test --extra docs pyproject.toml -o requirements.txt
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header requirements-peers.in -o requirements-peers.txt

clean:
	rm -rf $(VENV) .venv-peers $(RESULTS) docs/_build dist
