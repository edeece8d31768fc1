/** A way to the stand-in of the API server from an address of another host, as a load balancer in front of it has. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { type Host, temporaryFolder } from './lab.ts'

/** Between network namespaces there are file systems only: what comes in over TCP goes on over a socket that is a file. */
const RELAY = `
import socket, sys, threading

def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    near, _ = listener.accept()
    far = socket.socket(socket.AF_UNIX)
    far.connect(sys.argv[3])
    for ends in ((near, far), (far, near)):
        threading.Thread(target=pump, args=ends, daemon=True).start()
`

function splice(near: Socket, far: Socket): void {
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.pipe(other)
    one.on('close', () => other.destroy())
    // What breaks on one side ends the other.
    one.on('error', () => other.destroy())
  }
}

/** Has a host pass on what comes to its address and port to `target`, a URL on the node. Returns what ends it. */
export async function relay(host: Host, address: string, port: number, target: string): Promise<() => void> {
  const path = join(temporaryFolder(), 'relay')
  const server = createServer((near) => splice(near, connect(Number(new URL(target).port), '127.0.0.1')))
  server.listen(path)
  await once(server, 'listening')
  const args = ['netns', 'exec', host.namespace, 'python3', '-c', RELAY, address, String(port), path]
  const process = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(process.stdout, 'data')
  return () => {
    process.kill('SIGKILL')
    server.close()
  }
}
