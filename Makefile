# Two commands matter: `make run` and `make test`. Everything they need is installed by `make setup`,
# which is silent, and uses no network, when nothing is missing.

.DEFAULT_GOAL := help
.PHONY: help setup run test bench fmt sqlx-prepare

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Install what is missing: PostgreSQL's binaries, a C compiler, curl, jq, openssl and Python
	@scripts/setup.sh

run: setup ## Start the server with its sample tenants
	@scripts/run.sh

test: ## Formatting, layering, lints, every test, and the API against its own description
	@scripts/test.sh

bench: setup ## The load benchmark
	cargo bench --bench load

fmt: ## Format the code
	cargo fmt --all

sqlx-prepare: setup ## Check every query! against the migrations and refresh .sqlx
	@scripts/sqlx-prepare.sh
