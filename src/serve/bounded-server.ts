/** An HTTP server that anybody on the network may reach: nobody can take more than his part of it, or end the program. */
import { createServer, type RequestListener, type Server } from 'node:http'

/** Whoever asks for health does so now and then, from a few places: so many at once leave files for all else. */
const MAX_CONNECTIONS = 1_024
/** One after the other over one connection, which is then made anew: many that come at once wait for each other. */
const MAX_REQUESTS = 100
/** In ms, from the connection to the whole request. */
const REQUEST_MS = 10_000

/** Its connections are few, and do not wait for requests that never come. */
export function createBoundedServer(listener: RequestListener): Server {
  const limits = {
    requestTimeout: REQUEST_MS,
    headersTimeout: REQUEST_MS,
    connectionsCheckingInterval: 1_000,
  }
  const server = createServer(limits, listener)
  server.maxConnections = MAX_CONNECTIONS
  server.maxRequestsPerSocket = MAX_REQUESTS
  return server
}
