FROM rust:1-bookworm AS build
WORKDIR /src
# Minutes that only an image is worth.
ENV CARGO_PROFILE_RELEASE_LTO=thin
# The dependencies first, on empty sources: they are built again only when the lock file changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/it benches/log \
 && echo 'fn main() {}' | tee src/main.rs benches/log/main.rs > tests/it/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked
COPY . .
# A checkout may be older than the empty build above, and cargo goes by time.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/shoptalk --create-home shoptalk \
 # A volume here begins as what it covers, and so belongs to whoever writes to it.
 && install -d -o shoptalk -g shoptalk -m 0700 /var/lib/shoptalk/data
COPY --from=build /src/target/release/shoptalk /usr/local/bin/shoptalk
USER shoptalk
WORKDIR /var/lib/shoptalk
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["shoptalk", "health"]
ENTRYPOINT ["shoptalk"]
CMD ["serve"]
