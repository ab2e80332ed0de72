# normd in a container: docker build -t normd . && docker run -p 7117:7117 -v normd:/var/lib/normd normd
FROM debian:bookworm-slim AS build
WORKDIR /src
COPY deploy/install-deps.sh deploy/
RUN deploy/install-deps.sh build
COPY CMakeLists.txt CMakePresets.json ./
COPY proto proto
COPY core core
COPY server server
COPY client client
RUN cmake --preset release && cmake --build --preset release -j "$(nproc)" \
    && strip build/release/bin/normd build/release/bin/normctl

FROM debian:bookworm-slim
COPY deploy/install-deps.sh /tmp/
RUN /tmp/install-deps.sh runtime \
    && rm -rf /tmp/install-deps.sh /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/normd
COPY --from=build /src/build/release/bin/normd /src/build/release/bin/normctl /usr/local/bin/
# Asks for pages of 2 MiB; deploy/OPERATIONS.md says where that helps.
ENV GLIBC_TUNABLES=glibc.malloc.hugetlb=1
USER 10001:10001
VOLUME /var/lib/normd
EXPOSE 7117
STOPSIGNAL SIGTERM
# Reads through the same port and store as everybody.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["normctl", "--address=127.0.0.1:7117", "list", "--limit=1"]
ENTRYPOINT ["normd", "--listen=0.0.0.0:7117", "--data-dir=/var/lib/normd"]
