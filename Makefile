# Thin: every target is a cargo call or one script. `make run` and `make test` are all a new
# Debian 12 machine with Rust needs.

.PHONY: all deps kernel build run test lab fuzz bench lint dist clean

all: build

deps: ## install the Debian packages that are missing
	@.ci/deps

kernel: deps ## build the guest kernel, or take it from the cache
	@guest-kernel/build

build: deps ## build everything into $CARGO_TARGET_DIR/husk (default: target/husk)
	@.ci/assemble release

run: build ## run a container from a real image in a microVM
	@tests/demo

test: build ## unit tests, tidy, end-to-end stories
	@.ci/test

lab: build ## device tests and stories on KVM: this machine's, or an emulated one
	@.ci/lab $(TESTS)

fuzz: deps ## run every fuzz target; FUZZ=seconds for each
	@.ci/fuzz $(FUZZ)

bench: build ## print the figures that the README promises; BENCH=smoke for a quick pass
	@.ci/bench $(BENCH)

lint: ## format, clippy, documentation
	@.ci/lint

dist: deps ## build the release tarball in dist/
	@.ci/dist

clean: ## remove what builds made in the checkout
	cargo clean
	rm -rf dist
