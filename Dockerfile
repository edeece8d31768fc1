# What is built needs a compiler; what runs needs Node, and the programs that it starts.
FROM node:24.21.0-bookworm-slim AS build
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY package.json package-lock.json tsconfig.json ./
COPY scripts ./scripts
COPY native ./native
RUN npm ci --no-audit --no-fund
COPY src ./src
RUN scripts/setup build
# Headers and sources of addons are for compiling; other machines' addons are for them.
RUN npm prune --omit=dev --no-audit --no-fund \
  && scripts/image/strip node_modules "$(node -p process.arch)"

FROM node:24.21.0-bookworm-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends iptables kmod nftables \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /usr/local/lib/kube-ipvs
COPY --from=build /src/package.json ./
COPY --from=build /src/node_modules ./node_modules
COPY --from=build /src/dist/kube-ipvs.cjs /src/dist/main.cjs /src/dist/main.compiled /src/dist/page-thread.cjs ./dist/
COPY --from=build /src/dist/status ./dist/status
# The addon is looked for beside binding.gyp.
COPY --from=build /src/native/binding.gyp ./native/
COPY --from=build /src/native/build/Release/netlink_socket.node ./native/build/Release/
# kube-proxy's own DaemonSet runs the second name.
RUN ln -s /usr/local/lib/kube-ipvs/dist/kube-ipvs.cjs /usr/local/bin/kube-ipvs \
  && ln -s /usr/local/lib/kube-ipvs/dist/kube-ipvs.cjs /usr/local/bin/kube-proxy
# Root in the container: capabilities of other users do not pass on to the programs that are started.
ENTRYPOINT ["/usr/local/bin/kube-ipvs"]
