# Two images from one tree:
#   docker build --target server -t fishery-server .     (the default)
#   docker build --target agent  -t fishery-agent  .
# The sources are TypeScript that Node.js runs as it is, so nothing is compiled.

# No package in production needs an install script: better-sqlite3 and koffi carry their binaries along.
FROM node:24-bookworm-slim AS dependencies
WORKDIR /opt/fishery
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM node:24-bookworm-slim AS program
ENV NODE_ENV=production
WORKDIR /opt/fishery
COPY package.json LICENSE ./
COPY bin ./bin
COPY src ./src
COPY migrations ./migrations
COPY --from=dependencies /opt/fishery/node_modules ./node_modules
ENTRYPOINT ["node", "bin/fishery.mjs"]

# On a host: root, its network namespace, NET_ADMIN and NET_RAW; beside it, in a container that outlives it, the keeper of what
# must not end with the agent. They meet in /run/fishery.
#   docker run --network host --ulimit nofile=1048576 --volume /run/fishery:/run/fishery … fishery-agent keeper --number 0
#   docker run --network host --ulimit nofile=1048576 --volume /run/fishery:/run/fishery --cap-add NET_ADMIN --cap-add NET_RAW \
#     --device /dev/net/tun --volume fishery-agent:/var/lib/fishery … fishery-agent
# Fish needs sysctls, and /proc/sys is read-only in a container: set them on the host beforehand, or add --privileged.
# Its host outlives it, so the record of how that was before has to, too: a volume with a name.
FROM program AS agent
RUN apt-get update && apt-get install --yes --no-install-recommends nftables iproute2 && rm -rf /var/lib/apt/lists/*
VOLUME /var/lib/fishery
CMD ["agent"]

FROM program AS server
RUN install --directory --owner=node --group=node --mode=0700 /var/lib/fishery
# A container's loopback reaches nobody, so here the server listens on every interface of the container. That it does only
# with TLS, or when it is told that something in front speaks it:
#   docker run --publish 7480:7480 --volume fishery:/var/lib/fishery --volume /etc/fishery:/etc/fishery:ro \
#     --env FISHERY_TLS_CERT_FILE=/etc/fishery/tls.pem --env FISHERY_TLS_KEY_FILE=/etc/fishery/tls.key fishery-server
#   docker run --publish 127.0.0.1:7480:7480 --volume fishery:/var/lib/fishery --env FISHERY_ALLOW_PLAIN_HTTP=true fishery-server
ENV FISHERY_HOST=0.0.0.0 FISHERY_PORT=7480 FISHERY_DATA_DIR=/var/lib/fishery
USER node
VOLUME /var/lib/fishery
EXPOSE 7480
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["node", "bin/healthcheck.mjs"]
CMD ["server"]
