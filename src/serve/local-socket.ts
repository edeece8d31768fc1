/** A Unix socket on which commands ask the running program. Only root opens it. */
import { lstatSync, mkdirSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import type { Logger } from 'pino'
import { createBoundedServer } from './bounded-server.ts'
import { answer, type Routes } from './http.ts'

/** Longer paths do not fit into the kernel's address (sun_path, unix(7)), and would be cut off. */
const LONGEST_PATH = 107

/** Somebody answers on it: another one of us. */
async function isInUse(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => {
      resolve(false)
    })
  })
}

/**
 * Serves on a socket until the signal aborts; an empty path is not served. That it cannot be opened is logged: it costs
 * the commands, and nothing else. One that a dead process has left is replaced.
 */
export async function serveLocally(
  path: string,
  routes: Routes,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<void> {
  if (path === '' || signal.aborted) return
  try {
    if (Buffer.byteLength(path) > LONGEST_PATH)
      throw new Error(`${path} is longer than ${LONGEST_PATH} bytes`)
    if (await isInUse(path)) throw new Error('another process answers on it')
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    removeSocket(path)
    const server = createBoundedServer((request, response) => void answer(routes, request, response, log))
    await listen(server, path)
    signal.addEventListener('abort', () => {
      server.close()
      server.closeAllConnections()
    })
  } catch (err) {
    log.warn({ err, path }, 'cannot open the local socket: "kube-ipvs get" and the like ask the kernel alone')
  }
}

/** Whatever else is there is somebody's, and stays. */
function removeSocket(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw new Error(`${path} is there, and is no socket`)
  rmSync(path)
}

/** Never open to others, not even for a moment: it is made, at once, under a mask. */
async function listen(server: Server, path: string): Promise<void> {
  const mask = process.umask(0o177)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(path, resolve)
    process.umask(mask)
  })
}
