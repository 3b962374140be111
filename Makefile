# `make help` lists what there is. Environments are made from the locks in requirements/ and only
# when they do not fit them; nothing here names a package index: pip uses the machine's own.
.DEFAULT_GOAL := help
.PHONY: help run test check fmt lock science models bench soak clean dev-environment
.NOTPARALLEL:

ARGS ?=
PROGRAM := manage.py cmbagent_site sessions_app approvals_app execution_app cmbagent
# -I: whatever lies in the current folder or in PYTHONPATH has no say while environments are made
INSTALL = umask 022 && python=$$(PYTHON='$(PYTHON)' scripts/find-python) && "$$python" -I cmbagent/environment.py install
LOCK = .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
       --no-header --no-annotate --no-emit-index-url --no-emit-find-links

# what `make models` installed stays when the server's environment is made anew
MODELS = $$(grep -qs '"models.txt"' .venv.state.json && echo requirements/models.txt)
DEV_LOCKS = requirements/server.txt requirements/dev.txt requirements/models.txt

help:           ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run:            ## start the server (PORT=8000 HOST=127.0.0.1); Ctrl-C ends it
	@$(INSTALL) .venv requirements/server.txt $(MODELS)
	@exec .venv/bin/python manage.py serve

test:           ## all tests; as root installs the system packages they need (ARGS="-k name -x")
	@scripts/system-packages
	@$(INSTALL) .venv $(DEV_LOCKS)
	@$(INSTALL) .venv-science requirements/science.txt
	.venv/bin/python -m pytest $(ARGS)

check: dev-environment  ## format, lint, types, import contracts, words: everything that runs no test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/deptry .
	.venv/bin/vulture
	.venv/bin/djade --check --target-version 5.2 $$(git ls-files 'templates/*.html')
	.venv/bin/djlint --lint --quiet templates
	.venv/bin/codespell
	scripts/check-addresses
	scripts/check-django
	test "$$(grep -rn "print(" $(PROGRAM) --include="*.py" | wc -l)" -eq 0

fmt: dev-environment    ## write the format
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	-.venv/bin/djade --target-version 5.2 $$(git ls-files 'templates/*.html')

lock: dev-environment   ## pin requirements/*.in anew (UPGRADE=--upgrade for the newest versions)
	cd requirements && for part in server dev models science; do \
	    ../$(LOCK) $(UPGRADE) $$part.in --output-file $$part.txt || exit 1; done

science:        ## make the environment for executed code, again if it failed
	@$(INSTALL) .venv-science requirements/science.txt

models:         ## install what models of Anthropic, Google and Mistral need
	@$(INSTALL) .venv requirements/server.txt requirements/models.txt

bench: dev-environment science  ## measure (ARGS="name", AGAINST=commit); docs/benchmarks.md explains
	.venv/bin/python -m bench $(if $(AGAINST),--against $(AGAINST)) $(ARGS)

soak: dev-environment science   ## the long versions of the tests
	@scripts/system-packages
	.venv/bin/python -m pytest -m soak --timeout=0 $(ARGS)

clean:          ## remove environments and caches; data in var/ stays
	rm -rf .venv .venv-science .venv*.state.json .venv*.lock
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find $(PROGRAM) tests bench -name __pycache__ -prune -exec rm -rf {} +

dev-environment:
	@$(INSTALL) .venv $(DEV_LOCKS)
