# make book   run every chapter and render the book into _build/html; chapters that ran before
#             are reused while nothing they depend on has changed, and never where CI is set;
#             SOLUTIONS=no leaves out the exercises' solutions
# make slides the slides of both courses, in _build/slides; they work offline
# make test   lint, types, tests, doctests
# make course write an nbgrader course into _build/course: assignments, solutions, students' zip
# make lab    open the notebooks in JupyterLab
# make clean  remove what these made (the environment too)
#
# Each target first makes .venv with the first suitable Python, or with PYTHON=/path/to/python, and
# installs the versions of constraints.txt, once.

PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3.14 python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
SOURCE := _build/source
# Threads that wait for each other sleep and do not spin: beside another busy program, spinning makes
# a photo take 8 s to encode instead of 0.2 s on two cores.
export OMP_WAIT_POLICY ?= PASSIVE
# Two test processes with one thread each beat one process with two.
WORKERS ?= 2

.PHONY: book slides test course lab clean

$(BIN)/python:
	@bare=; for python in $(PYTHONS); do \
		"$$python" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))" \
			2>/dev/null || continue; \
		"$$python" -c "import ensurepip, venv" 2>/dev/null && exec "$$python" -m venv $(VENV); \
		bare="$$python"; \
	done; \
	if [ "$$bare" ]; then \
		echo "$$bare has no venv module: install it, in Debian with apt-get install python3-venv."; \
	else \
		echo "No Python 3.11 to 3.14 is found: install one, or name it in make PYTHON=/path/to/python."; \
	fi >&2; \
	exit 1

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable ".[book,test,baselines,cluster]"
	@touch $@

$(VENV)/installed-lab: $(VENV)/installed
	$(PIP) --editable ".[lab]"
	touch $@

$(VENV)/installed-course: $(VENV)/installed
	@$(PIP) --editable ".[course]"
	@touch $@

book: $(VENV)/installed
	@rm -rf _build/html $(SOURCE)
	@mkdir -p $(SOURCE)
	@cp -r book $(SOURCE)/book
	@$(BIN)/python -m tools.render_pages $(SOURCE)/book
	@$(BIN)/python -m tools.run_notebooks --out $(SOURCE)/notebooks --reuse _build/chapters \
		notebooks/[0-9]*.ipynb
	@[ "$(SOLUTIONS)" != no ] || $(BIN)/python -m tools.make_course --strip $(SOURCE)
	@$(BIN)/jupyter-book build $(SOURCE) --config _config.yml --toc book/_toc.yml \
		--path-output . -W --keep-going --quiet >/dev/null  # its banners; warnings go on
	@$(BIN)/python -m zipfile -c _build/indiret-book.zip _build/html
	@mv _build/indiret-book.zip _build/html

node_modules/.bin/tsc: package.json
	@! command -v npm >/dev/null || { npm install --silent --no-package-lock && touch $@; }

slides: $(VENV)/installed node_modules/.bin/tsc
	@$(BIN)/python -m tools.run_notebooks --out $(SOURCE)/notebooks --reuse _build/chapters \
		notebooks/[0-9]*.ipynb
	@$(BIN)/python -m tools.make_slides --chapters $(SOURCE)/notebooks --out _build/slides

test: $(VENV)/installed-lab $(VENV)/installed-course node_modules/.bin/tsc
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

course: $(VENV)/installed-course
	@$(BIN)/python -m tools.make_course

lab: $(VENV)/installed-lab
	$(BIN)/jupyter lab --notebook-dir notebooks --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

clean:
	rm -rf _build $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
