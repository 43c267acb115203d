# What people type. `just` alone lists it.

_list:
    @just --list --unsorted

# From nothing to a resampled dataset and a report
demo:
    cargo demo

# Everything a change must pass
test:
    ./test

# Format the code
fmt:
    cargo fmt --all

# Formatting and lints, as CI asks for them
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The API documentation, every link checked
docs $RUSTDOCFLAGS="-D warnings":
    cargo doc --workspace --no-deps --document-private-items --locked

# Crates depend on each other only as ARCHITECTURE.md draws it
arrows:
    cargo xtask arrows
